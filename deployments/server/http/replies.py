"""What the HTTP door answers with: status, headers, and a body or one that has begun."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Any

import orjson

from quorate.deployments.errors import OverloadedError, UnauthenticatedError
from quorate.deployments.server.compression import Headers
from quorate.deployments.server.error_text import error_text
from quorate.deployments.server.http.streams import Begun
from quorate.deployments.server.tracing import answer_headers, ended, failed
from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.wire.inference import InferResponse
from quorate.deployments.wire.json_tensors import BinaryOutputs, dump_response
from quorate.fusion.errors import QuorateError, QuorumError

Reply = tuple[int, Headers, "bytes | Begun"]

JSON: Headers = [(b"content-type", b"application/json")]
# Of an inference that was answered.
InferReply = tuple[Headers, bytes]
# A number of FP32 is up to 16 characters of JSON, and packed once more.
TEXT_PER_BINARY = 5
# Tells a client what its gRPC sister is told: the status alone does not tell a full queue from members that are gone.
ERROR_CODE = b"error-code"
# Nor does it tell a quorum that was not reached from a change under way: the error's class.
ERROR_KIND = b"error-kind"


def infer_reply(response: InferResponse, binary: BinaryOutputs) -> InferReply:
    """As the protocol has it: JSON, and behind it the bytes of outputs that go so."""
    body, header_length = dump_response(response, binary)
    if header_length is None:
        return JSON, body
    length = str(header_length).encode()
    return [(b"content-type", b"application/octet-stream"), (b"inference-header-content-length", length)], body


def json_reply(data: Any) -> Reply:
    return 200, JSON, orjson.dumps(data)


def serve_health(ready: bool) -> Reply:
    """As Ray Serve's proxy answers: 200 with the word that KubeRay's probe greps for, or 503 without it."""
    text = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    return (200, text, b"success") if ready else (503, text, b"too few members take calls, or this door is closing")


def not_found(path: str) -> Reply:
    return 404, JSON, orjson.dumps({"error": f"there is no {path[:200]}; see /v2"})


def wrong_method(method: str, right: str) -> Reply:
    """For a path that takes other methods."""
    sentence = f"{method} is not for this path; use {right}"
    return 405, [*JSON, (b"allow", right.encode())], orjson.dumps({"error": sentence})


def error_reply(error: Exception) -> Reply:
    """What a request that failed is told."""
    headers = list(JSON)
    if isinstance(error, QuorateError):
        headers += [(ERROR_CODE, error.grpc_code.encode()), (ERROR_KIND, type(error).__name__.encode())]
    if isinstance(error, OverloadedError | QuorumError) and error.retry_after_s > 0:
        headers.append((b"retry-after", str(math.ceil(error.retry_after_s)).encode()))  # whole seconds, says RFC 9110
    if isinstance(error, UnauthenticatedError):
        headers.append((b"www-authenticate", b"Bearer"))
    return http_status(error), headers, orjson.dumps({"error": error_text(error)})


def http_status(error: Exception) -> int:
    return error.http_status if isinstance(error, QuorateError) else 500


async def traced(trace: RequestTrace, work: Awaitable[Reply]) -> Reply:
    """The reply, an error's too, which names the trace to the client."""
    try:
        status, headers, body = await work
    except asyncio.CancelledError as error:
        failed(trace, error)
        ended(trace, {})
        raise
    except Exception as error:
        failed(trace, error)
        status, headers, body = error_reply(error)
    ended(trace, {"http.response.status_code": status})
    return status, [*headers, *answer_headers(trace)], body
