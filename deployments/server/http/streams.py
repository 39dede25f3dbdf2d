"""Answers over HTTP that begin before they are whole."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from quorate.deployments.server.http.compression import Headers
from quorate.fusion.errors import QuorateError

_log = logging.getLogger(__name__)
# A client that takes nothing for so long has stopped. One that reads only after it has sent all ends here too, once the
# buffers on the way are full.
STALL_S = 60.0


async def first_of(chunks: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The same chunks, the first of which is there: what fails before it can still be an error page."""
    first = await chunks.__anext__()

    async def all_of() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(chunks):
            yield first
            async for chunk in chunks:
                yield chunk

    return all_of()


async def send_stream(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    status: int,
    headers: Headers,
    chunks: AsyncIterator[bytes],
) -> None:
    """Send chunks as they come. What fails midway leaves the body without its end: no client takes it for whole."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    try:
        async for chunk in chunks:
            message = {"type": "http.response.body", "body": chunk, "more_body": True}
            await asyncio.wait_for(send(message), STALL_S)
    except asyncio.TimeoutError:
        _log.warning("a client took nothing for %g s; its stream is cut", STALL_S)
    except QuorateError as error:
        _log.info("a stream ended early: %s", error)
    except asyncio.CancelledError:
        _log.debug("the client of a stream is gone")
    except Exception:
        _log.exception("a stream failed")
    else:
        await send({"type": "http.response.body", "body": b""})
