"""A request's body, received only as far as it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from quorate.deployments.errors import RequestError
from quorate.deployments.memory_budget import MemoryHold
from quorate.deployments.time_limit import within

# ASGI's: the next part of a request's body, or the news that the client hung up.
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
# A client that sends nothing for so long has stopped.
SILENCE_S = 60.0


class ByteStream:
    """A request's body, received only as far as it is read. What was read counts as held until it is given back.

    Attributes:
        hung_up: the client has.
    """

    def __init__(self, receive: Receive, hold: MemoryHold):
        self.hung_up = False
        self._hold = hold
        self._untaken_bytes = 0  # read, and nobody has said yet when to give them back
        self._receive = receive
        self._chunk = memoryview(b"")
        self._more = True
        self._closed = False

    async def read(self, size: int) -> bytearray:
        """The next ``size`` bytes, fewer at the end of the body."""
        data = bytearray()
        await self.read_onto(data, size)
        return data

    async def read_onto(self, data: bytearray, size: int) -> bool:
        """Append the next ``size`` bytes, which take memory only as they come; whether they all came.

        Raises:
            OverloadedError: there is no room for more.
            asyncio.CancelledError: the client hung up.
        """
        end = len(data) + size
        while len(data) < end:
            if not self._chunk and not await self._next():
                return False
            part = self._chunk[: end - len(data)]
            if not self._closed:  # whoever still reads then is about to be cancelled
                self._hold.add(len(part))
                self._untaken_bytes += len(part)
            data += part
            self._chunk = self._chunk[len(part) :]
        return True

    async def chunk(self) -> bytes:
        """What comes next, as much as it is; nothing at the end of the body. Raises what ``read_onto`` raises."""
        if not await self._next():
            return b""
        part, self._chunk = bytes(self._chunk), memoryview(b"")
        if not self._closed:
            self._hold.add(len(part))
            self._untaken_bytes += len(part)
        return part

    def take_held(self) -> int:
        """How many bytes were read since the last call: the caller gives them back when he needs them no more."""
        taken, self._untaken_bytes = self._untaken_bytes, 0
        return taken

    def give_back(self, size: int) -> None:
        """Bytes that were taken are needed no more."""
        if not self._closed:
            self._hold.give_back(size)

    def close(self) -> None:
        """Give back all that was read."""
        self._closed = True
        self._hold.close()

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
                message = await within(SILENCE_S, self._receive())
            except asyncio.TimeoutError:
                raise RequestError(f"the stream brought nothing for {SILENCE_S:g} s; send it without pauses") from None
            if message["type"] == "http.disconnect":
                self.hung_up = True
                raise asyncio.CancelledError
            self._chunk = memoryview(message.get("body", b""))
            self._more = message.get("more_body", False)
        return bool(self._chunk)
