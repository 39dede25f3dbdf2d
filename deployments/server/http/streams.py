"""Answers over HTTP on their way out, also those that begin before they are whole: no client holds one for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from quorate.deployments.server.compression import Headers
from quorate.deployments.time_limit import within
from quorate.fusion.errors import QuorateError

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_log = logging.getLogger(__name__)
# A client that takes nothing for so long has stopped. One that reads only after it has sent all ends here too, once the
# buffers on the way are full.
STALL_S = 60.0
# What is written at once of an answer that is there whole.
PIECE_BYTES = 256 << 10


@dataclass(frozen=True)
class Begun:
    """Chunks, the first of which is there: what fails before it can still be an error page. To be closed."""

    first: bytes
    rest: AsyncGenerator[bytes, None]


async def begin(chunks: AsyncGenerator[bytes, None]) -> Begun:
    """Wait for the first chunk, and raise what is raised instead of it."""
    return Begun(await chunks.__anext__(), chunks)


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send an answer; of a long one nearly all has been read when this returns, or its client has stopped."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if len(body) <= PIECE_BYTES:
        await send({"type": "http.response.body", "body": body})
        return
    view = memoryview(body)
    try:
        for at in range(0, len(view), PIECE_BYTES):
            piece = view[at : at + PIECE_BYTES]
            await within(STALL_S, send({"type": "http.response.body", "body": piece, "more_body": True}))
        await within(STALL_S, send({"type": "http.response.body", "body": b""}))
    except asyncio.TimeoutError:
        _log.warning("a client took nothing of its answer for %g s; its connection is closed", STALL_S)


async def send_stream(send: Send, status: int, headers: Headers, begun: Begun) -> None:
    """Send chunks as they come. What fails midway leaves the body without its end: no client takes it for whole."""

    async def send_chunk(chunk: bytes) -> None:
        await within(STALL_S, send({"type": "http.response.body", "body": chunk, "more_body": True}))

    # However this ends, what the chunks hold is given back now, not when they are collected.
    async with contextlib.aclosing(begun.rest):
        try:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send_chunk(begun.first)
            async for chunk in begun.rest:
                await send_chunk(chunk)
        except asyncio.TimeoutError:
            _log.warning("a client took nothing for %g s; its stream is closed", STALL_S)
        except QuorateError as error:
            _log.info("a stream ended early: %s", error)
        except asyncio.CancelledError:
            _log.debug("the client of a stream is gone")
        except Exception:
            _log.exception("a stream failed")
        else:
            await send({"type": "http.response.body", "body": b""})
