"""Applications of ASGI that answer a request for its head alone."""

from __future__ import annotations

from typing import Any

import orjson

MAX_HEAD_BYTES, MAX_HEADERS = 64 << 10, 128


async def answer_431(scope: Any, receive: Any, send: Any) -> None:
    """It is too long, or has too many headers."""
    await _answer(send, 431, f"the request's head is over {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers; send less")


async def answer_400(scope: Any, receive: Any, send: Any) -> None:
    """It names no host, or several."""
    await _answer(send, 400, "HTTP/1.1 wants one Host header (RFC 9112, 3.2); send Host: with the server's name")


async def answer_404(scope: Any, receive: Any, send: Any) -> None:
    """It asks for a WebSocket."""
    await _answer(
        send, 404, "no WebSocket is spoken here; send requests over HTTP, or over gRPC", (b"connection", b"close")
    )


async def _answer(send: Any, status: int, sentence: str, *more: tuple[bytes, bytes]) -> None:
    body = orjson.dumps({"error": sentence})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
