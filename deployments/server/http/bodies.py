"""HTTP bodies on their way in: read within limits, unpacked, and cut into JSON and binary tensors.

A body counts as held from the moment its bytes are here until it has been parsed, packed and unpacked ones alike. After
that its rows count in the engine's queue.
"""

from __future__ import annotations

import asyncio

from quorate.deployments.errors import BodySizeError, OverloadedError, RequestError
from quorate.deployments.server.http.compression import Headers, unpack
from quorate.deployments.wire.byte_stream import Receive
from quorate.deployments.wire.inference import Body
from quorate.deployments.wire.limits import MAX_BODY_BYTES

# Together, bodies that are not parsed yet may take this much memory.
MAX_HELD_BYTES = 4 * MAX_BODY_BYTES


class BodyMemory:
    """What all bodies of one server that are not parsed yet hold together.

    Attributes:
        limit_bytes: more than this is refused.
        held_bytes: now.
    """

    def __init__(self, limit_bytes: int = MAX_HELD_BYTES):
        self.limit_bytes = limit_bytes
        self.held_bytes = 0


class IncomingBody:
    """One body; use it as a context that ends when the body has been parsed.

    Attributes:
        held_bytes: what it adds to the memory of all.
    """

    __slots__ = ("_memory", "held_bytes")

    def __init__(self, memory: BodyMemory):
        self._memory = memory
        self.held_bytes = 0

    def __enter__(self) -> IncomingBody:
        return self

    def __exit__(self, *_: object) -> None:
        self._release(self.held_bytes)

    async def read(self, headers: Headers, receive: Receive) -> Body:
        """The whole body, refused as soon as it is known to be too long.

        Raises:
            BodySizeError: too long, packed or unpacked.
            OverloadedError: all bodies together hold too much memory.
            RequestError: wrongly packed, or wrongly cut.
            asyncio.CancelledError: the client hung up before the end.
        """
        coding, header_length = b"", None
        for name, value in headers:
            if name == b"content-encoding":
                coding = value.strip().lower()
            elif name == b"inference-header-content-length":
                header_length = _header_length(value, header_length)
            elif name == b"content-length" and int(value) > MAX_BODY_BYTES:  # httptools has seen that it is a number
                raise BodySizeError("is", MAX_BODY_BYTES)
        body = await self._receive(receive)
        if coding and coding != b"identity":
            body = await self._unpack(body, coding)
        return _cut(body, header_length)

    async def _receive(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            chunk: bytes = message.get("body", b"")
            self._hold(len(chunk))
            if self.held_bytes > MAX_BODY_BYTES:
                raise BodySizeError("is", MAX_BODY_BYTES)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _unpack(self, body: bytes, coding: bytes) -> bytes:
        packed_bytes = self.held_bytes

        def count(size: int) -> None:
            self._hold(size)
            if self.held_bytes - packed_bytes > MAX_BODY_BYTES:
                raise BodySizeError("unpacks to", MAX_BODY_BYTES)

        plain = await unpack(body, coding, count)
        self._release(packed_bytes)
        return plain

    def _hold(self, size: int) -> None:
        self.held_bytes += size
        memory = self._memory
        memory.held_bytes += size
        if memory.held_bytes > memory.limit_bytes:
            raise OverloadedError("the memory for bodies that come in", memory.limit_bytes, 1.0)

    def _release(self, size: int) -> None:
        self.held_bytes -= size
        self._memory.held_bytes -= size


def _cut(body: bytes, header_length: int | None) -> Body:
    """The JSON part of a body and the bytes behind it."""
    if header_length is None:
        return Body(body)
    if header_length > len(body):
        raise RequestError(
            f"Inference-Header-Content-Length is {header_length} but the body has {len(body)} bytes; "
            "give the length of its JSON part"
        )
    view = memoryview(body)
    return Body(view[:header_length], view[header_length:]) if header_length else Body(None, view)


def _header_length(value: bytes, before: int | None) -> int:
    if before is not None:
        raise RequestError("Inference-Header-Content-Length is given twice; give it once")
    if not value.isdigit() or len(value) > 18:
        raise RequestError(
            f"Inference-Header-Content-Length is {value[:40]!r}; give the length of the JSON part in bytes"
        )
    return int(value)
