"""HTTP bodies on their way in: read within limits, unpacked, and cut into JSON and binary tensors.

All that a body takes counts in the server's memory budget: packed, unpacked and parsed, and then its tensors until the
request is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from quorate.deployments.errors import BodySizeError, RequestError
from quorate.deployments.memory_budget import MemoryBudget, MemoryHold
from quorate.deployments.server.compression import Headers, unpack
from quorate.deployments.server.heavy_work import HeavyWork
from quorate.deployments.wire.byte_stream import Receive
from quorate.deployments.wire.inference import Body
from quorate.deployments.wire.limits import MAX_BODY_BYTES

T = TypeVar("T")

# A number of a JSON array, as Python's object and its places in two lists and two arrays. Each ends with a comma.
PARSED_BYTES_PER_NUMBER = 56
# What stays of a number is at most as long as an element of FP64.
NUMBER_BYTES = 8
MAX_CHUNKS = 1024


class IncomingBody:
    """One body; use it as a context that ends when the request is answered.

    Attributes:
        hold: what it takes of the budget.
    """

    __slots__ = ("_heavy", "_limit_bytes", "hold")

    def __init__(self, budget: MemoryBudget, heavy: HeavyWork, limit_bytes: int | None = None):
        """Args:
        budget: what it takes is counted there.
        heavy: where a long body is unpacked and parsed.
        limit_bytes: a longer body, packed or not, is refused; what any request may be when None.
        """
        self._heavy = heavy
        self._limit_bytes = min(MAX_BODY_BYTES, limit_bytes or MAX_BODY_BYTES)
        self.hold: MemoryHold = budget.hold()

    def __enter__(self) -> IncomingBody:
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.close()

    async def read(self, headers: Headers, receive: Receive) -> Body:
        """The whole body, refused as soon as it is known to be too long.

        Raises:
            BodySizeError: too long, packed or unpacked.
            OverloadedError: all bodies together hold too much memory.
            RequestError: wrongly packed, or wrongly cut.
            asyncio.CancelledError: the client hung up before the end.
        """
        coding, json_bytes = b"", None
        for name, value in headers:
            if name == b"content-encoding":
                coding = value.strip().lower()
            elif name == b"inference-header-content-length":
                json_bytes = header_length(value, json_bytes)
            elif name == b"content-length" and int(value) > self._limit_bytes:  # httptools has seen that it is a number
                raise BodySizeError("is", self._limit_bytes)
        body = await self._receive(receive)
        if coding and coding != b"identity":
            body = await self._unpack(body, coding)
        return cut(body, json_bytes)

    async def _receive(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            chunk: bytes = message.get("body", b"")
            self.hold.add(len(chunk))
            if self.hold.held_bytes > self._limit_bytes:
                raise BodySizeError("is", self._limit_bytes)
            chunks.append(chunk)
            if len(chunks) == MAX_CHUNKS:  # a chunk of one byte takes thirty as an object of its own
                chunks = [b"".join(chunks)]
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _unpack(self, body: bytes, coding: bytes) -> bytes:
        packed_bytes = self.hold.held_bytes

        def count(size: int) -> None:
            self.hold.add(size)
            if self.hold.held_bytes - packed_bytes > self._limit_bytes:
                raise BodySizeError("unpacks to", self._limit_bytes)

        plain = await unpack(body, coding, count, self._heavy)
        self.hold.give_back(packed_bytes)
        return plain

    async def parse(self, body: Body, work: Callable[[], T]) -> T:
        """Do the work of reading tensors from the body, a long one on another thread.

        Raises:
            OverloadedError: there is no room for what it takes.
        """
        text = body.json
        numbers = 0 if text is None else bytes(text).count(b",")
        self.hold.add(numbers * PARSED_BYTES_PER_NUMBER)
        found = await self._heavy.run(0 if text is None else len(text), work)
        self.hold.give_back(numbers * (PARSED_BYTES_PER_NUMBER - NUMBER_BYTES))
        return found


def cut(body: bytes, json_bytes: int | None) -> Body:
    """The JSON part of a body and the bytes behind it."""
    if json_bytes is None:
        return Body(body)
    if json_bytes > len(body):
        raise RequestError(
            f"Inference-Header-Content-Length is {json_bytes} but the body has {len(body)} bytes; "
            "give the length of its JSON part"
        )
    view = memoryview(body)
    return Body(view[:json_bytes], view[json_bytes:]) if json_bytes else Body(None, view)


def header_length(value: bytes, before: int | None) -> int:
    if before is not None:
        raise RequestError("Inference-Header-Content-Length is given twice; give it once")
    if not value.isdigit() or len(value) > 18:
        raise RequestError(
            f"Inference-Header-Content-Length is {value[:40]!r}; give the length of the JSON part in bytes"
        )
    return int(value)
