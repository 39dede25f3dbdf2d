"""From an HTTP status back to the error that the server met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from quorate.deployments import errors

_BY_STATUS: dict[int, type[errors.RemoteError]] = {
    401: errors.RemoteUnauthenticatedError,
    403: errors.RemoteForbiddenError,
    404: errors.RemoteNotFoundError,
    413: errors.RemoteBodySizeError,
    501: errors.RemoteUnsupportedError,
    503: errors.RemoteUnavailableError,
    504: errors.RemoteDeadlineError,
}
# Of one status there are several kinds, which the header ``error-kind`` tells apart.
_BY_KIND: dict[str, type[errors.RemoteError]] = {
    "QuorumError": errors.RemoteQuorumError,
    "ConflictError": errors.RemoteConflictError,
    "NonFiniteRowError": errors.RemoteNonFiniteRowError,
}
_HEADERS = ("retry-after", "error-code", "error-kind")


class Told(NamedTuple):
    """What a refusal's headers say.

    Attributes:
        retry_after: in seconds; empty where there was none.
        code: gRPC's; other servers have none, and a full one says when to ask again.
        kind: the error's class.
    """

    retry_after: str = ""
    code: str = ""
    kind: str = ""


NOTHING = Told()


def told_by(headers: Mapping[str, str]) -> Told:
    """The same, of all headers, in small letters."""
    return Told(*(headers.get(name, "") for name in _HEADERS))


def refusal(status: int, body: bytes, told: Told = NOTHING, account: str = "") -> errors.RemoteError:
    """The error of a response; its body is the protocol's ``{"error": ...}``, or whatever stands before the server.

    Args:
        account: what other doors did.
    """
    text = error_text(body)
    return remote_error(status, f"{text}; {account}" if account else text, told)


def error_text(body: bytes) -> str:
    """What a refusing response says."""
    try:
        return str(orjson.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")


def remote_error(status: int, text: str, told: Told = NOTHING) -> errors.RemoteError:
    """The error of a refused call."""
    retry_after_s = float(told.retry_after) if told.retry_after.isdigit() else 0.0
    if told.kind in _BY_KIND:
        return _BY_KIND[told.kind](status, text, retry_after_s)
    if status == 503 and (told.code == "RESOURCE_EXHAUSTED" if told.code else retry_after_s > 0):
        return errors.RemoteOverloadedError(status, text, retry_after_s)
    otherwise = errors.RemoteRequestError if 400 <= status < 500 else errors.RemoteError
    return _BY_STATUS.get(status, otherwise)(status, text, retry_after_s)
