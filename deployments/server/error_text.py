"""What a client is told of an error, whatever its wire."""

from __future__ import annotations

import logging

from quorate.deployments.wire.limits import MAX_ERROR_BYTES
from quorate.fusion.errors import QuorateError

_log = logging.getLogger(__name__)


def error_text(error: Exception) -> str:
    """The sentence of one of our own errors; of any other only that it happened, since its text is for the log."""
    if isinstance(error, QuorateError):
        return clip(str(error))
    _log.error("a request failed", exc_info=error)
    return "internal error; the server log has the details"


def clip(sentence: str) -> str:
    """A text short enough for every wire, gRPC's 8 KiB of trailers with %XX for each byte included."""
    return sentence.encode()[:MAX_ERROR_BYTES].decode(errors="ignore")
