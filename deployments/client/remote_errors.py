"""From an HTTP status back to the error that the server met."""

from __future__ import annotations

import orjson

from quorate.deployments import errors

_BY_STATUS: dict[int, type[errors.RemoteError]] = {
    401: errors.RemoteUnauthenticatedError,
    403: errors.RemoteForbiddenError,
    404: errors.RemoteNotFoundError,
    501: errors.RemoteUnsupportedError,
    503: errors.RemoteUnavailableError,
    504: errors.RemoteDeadlineError,
}


def refusal(status: int, body: bytes, retry_after: str = "", code: str = "", account: str = "") -> errors.RemoteError:
    """The error of a response; its body is the protocol's ``{"error": ...}``, or whatever stands before the server.

    Args:
        retry_after: see ``remote_error``.
        code: likewise.
        account: what other doors did.
    """
    text = error_text(body)
    return remote_error(status, f"{text}; {account}" if account else text, retry_after, code)


def error_text(body: bytes) -> str:
    """What a refusing response says."""
    try:
        return str(orjson.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")


def remote_error(status: int, text: str, retry_after: str = "", code: str = "") -> errors.RemoteError:
    """The error of a refused call.

    Args:
        retry_after: the header of that name, in seconds; empty where there was none.
        code: the header ``error-code``; other servers have none, and a full one says when to ask again.
    """
    retry_after_s = float(retry_after) if retry_after.isdigit() else 0.0
    if status == 503 and (code == "RESOURCE_EXHAUSTED" if code else retry_after_s > 0):
        return errors.RemoteOverloadedError(status, text, retry_after_s)
    otherwise = errors.RemoteRequestError if 400 <= status < 500 else errors.RemoteError
    return _BY_STATUS.get(status, otherwise)(status, text, retry_after_s)
