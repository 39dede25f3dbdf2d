"""A request's body, received only as far as it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from quorate.deployments.errors import RequestError

# ASGI's: the next part of a request's body, or the news that the client hung up.
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
# A client that sends nothing for so long has stopped.
SILENCE_S = 60.0


class ByteStream:
    """A request's body, received only as far as it is read.

    Attributes:
        hung_up: the client has.
    """

    def __init__(self, receive: Receive):
        self.hung_up = False
        self._receive = receive
        self._chunk = memoryview(b"")
        self._more = True

    async def read(self, size: int) -> bytearray:
        """The next ``size`` bytes, fewer at the end of the body.

        Raises:
            asyncio.CancelledError: the client hung up.
        """
        data = bytearray(size)
        at = 0
        while at < size:
            if not self._chunk and not await self._next():
                return data[:at]
            part = self._chunk[: size - at]
            data[at : at + len(part)] = part
            self._chunk = self._chunk[len(part) :]
            at += len(part)
        return data

    async def discard(self) -> None:
        """Read what the client still sends, so that it comes to read what it is told."""
        self._chunk = memoryview(b"")
        while await self._next():
            self._chunk = memoryview(b"")

    async def gone(self) -> None:
        """Return when the client has hung up; only after the end of the body."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bool:
        while self._more and not self._chunk:
            try:
                message = await asyncio.wait_for(self._receive(), SILENCE_S)
            except asyncio.TimeoutError:
                raise RequestError(f"the stream brought nothing for {SILENCE_S:g} s; send it without pauses") from None
            if message["type"] == "http.disconnect":
                self.hung_up = True
                raise asyncio.CancelledError
            self._chunk = memoryview(message.get("body", b""))
            self._more = message.get("more_body", False)
        return bool(self._chunk)
