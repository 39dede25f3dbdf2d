"""What gRPC writes into HTTP/2's headers: timeouts, statuses and sentences.

Source: "gRPC over HTTP2" (PROTOCOL-HTTP2.md of the gRPC repository), Requests and Responses.
"""

from __future__ import annotations

import math
import re
from urllib.parse import quote

from quorate.deployments.errors import RequestError

Headers = list[tuple[bytes, bytes]]

STATUSES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
CODINGS = (b"identity", b"deflate", b"gzip")
ANSWER: Headers = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b",".join(CODINGS)),
]
_OK: Headers = [(b"grpc-status", b"0")]
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# What may stand in a sentence as it is: printable ASCII, without the percent sign.
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def parse_timeout_s(value: bytes) -> float:
    """Seconds of a ``grpc-timeout``.

    Raises:
        RequestError: it is none.
    """
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise RequestError(f"grpc-timeout is {value[:40]!r}; give up to 8 digits and one of H, M, S, m, u, n")
    return int(found[1]) * _UNIT_S[found[2]]


def trailers(code: str, sentence: str = "", retry_after_s: float = 0.0) -> Headers:
    """What ends a call: a status by its name, and a sentence for all but OK.

    Args:
        retry_after_s: when a client that tries again should do so; 0 for when it likes. Source: gRPC's proposal A6,
            "Pushback".
    """
    if code == "OK":
        return _OK
    end = [(b"grpc-status", b"%d" % STATUSES.index(code)), (b"grpc-message", quote(sentence, _PLAIN).encode())]
    if retry_after_s > 0:
        end.append((b"grpc-retry-pushback-ms", b"%d" % math.ceil(retry_after_s * 1e3)))
    return end
