"""HTTP bodies on their way in and out: read within a limit, unpacked and packed, cut into JSON and binary tensors."""

from __future__ import annotations

import asyncio
import zlib

from quorate.deployments.errors import BodySizeError, OverloadedError, RequestError
from quorate.deployments.wire.byte_stream import Receive
from quorate.deployments.wire.inference import Body
from quorate.deployments.wire.limits import MAX_BODY_BYTES

Headers = list[tuple[bytes, bytes]]

_WBITS = {b"gzip": 31, b"deflate": 15}  # HTTP's deflate is the zlib format (RFC 9110, 8.4.1.2)
# Longer work is done on another thread, so that the event loop goes on. Packed bytes may grow a thousandfold.
PACK_INLINE_BYTES, UNPACK_INLINE_BYTES = 32 << 10, 1 << 10
# Together, bodies that are still coming in may take this much memory.
MAX_ARRIVING_BYTES = 4 * MAX_BODY_BYTES
# A shorter answer fits into one packet as it is.
COMPRESS_FROM_BYTES = 1024


async def read_body(headers: Headers, receive: Receive) -> Body:
    """The whole body, refused as soon as it is known to be too long.

    Raises:
        BodySizeError: too long, packed or unpacked.
        OverloadedError: too much is coming in at once.
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
    body = await _receive_all(receive)
    if coding and coding != b"identity":
        short = len(body) <= UNPACK_INLINE_BYTES
        body = _unpack(body, coding) if short else await asyncio.to_thread(_unpack, body, coding)
    if header_length is None:
        return Body(body)
    if header_length > len(body):
        raise RequestError(
            f"Inference-Header-Content-Length is {header_length} but the body has {len(body)} bytes; "
            "give the length of its JSON part"
        )
    view = memoryview(body)
    return Body(view[:header_length], view[header_length:]) if header_length else Body(None, view)


async def pack_answer(body: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Compress an answer if the client takes it so; returns it with the header that says how."""
    if len(body) < COMPRESS_FROM_BYTES:
        return body, []
    coding = _accepted(b",".join(value for name, value in headers if name == b"accept-encoding"))
    if not coding:
        return body, []
    short = len(body) <= PACK_INLINE_BYTES
    packed = _pack(body, coding) if short else await asyncio.to_thread(_pack, body, coding)
    return packed, [(b"content-encoding", coding), (b"vary", b"accept-encoding")]


async def _receive_all(receive: Receive) -> bytes:
    message = await receive()
    if message["type"] != "http.disconnect" and not message.get("more_body", False):  # as nearly always
        return _checked(message.get("body", b""))
    chunks: list[bytes] = []
    length = 0
    try:
        while True:
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            chunk: bytes = message.get("body", b"")
            length += len(chunk)
            _arriving.bytes += len(chunk)
            if length > MAX_BODY_BYTES:
                raise BodySizeError("is", MAX_BODY_BYTES)
            if _arriving.bytes > MAX_ARRIVING_BYTES:
                raise OverloadedError("the memory for bodies that come in", MAX_ARRIVING_BYTES, 1.0)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await receive()
    finally:
        _arriving.bytes -= length


def _checked(body: bytes) -> bytes:
    if len(body) > MAX_BODY_BYTES:
        raise BodySizeError("is", MAX_BODY_BYTES)
    return body


class _Arriving:
    """How much of all bodies under way is here."""

    bytes = 0


_arriving = _Arriving()


def _header_length(value: bytes, before: int | None) -> int:
    if before is not None:
        raise RequestError("Inference-Header-Content-Length is given twice; give it once")
    if not value.isdigit() or len(value) > 18:
        raise RequestError(
            f"Inference-Header-Content-Length is {value[:40]!r}; give the length of the JSON part in bytes"
        )
    return int(value)


def _unpack(body: bytes, coding: bytes) -> bytes:
    wbits = _WBITS.get(coding)
    if wbits is None:
        raise RequestError(f"Content-Encoding is {coding[:40]!r}; use gzip, deflate or none")
    stream = zlib.decompressobj(wbits)
    try:
        plain = stream.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise RequestError(f"the body is not {coding.decode()} ({error}); pack it again") from None
    if len(plain) > MAX_BODY_BYTES:
        raise BodySizeError("unpacks to", MAX_BODY_BYTES)
    if not stream.eof or stream.unused_data:
        raise RequestError(f"the body does not end where its {coding.decode()} stream does; pack it again")
    return plain


def _pack(body: bytes, coding: bytes) -> bytes:
    stream = zlib.compressobj(1, wbits=_WBITS[coding])
    return stream.compress(body) + stream.flush()


def _accepted(header: bytes) -> bytes:
    """Of the codings we have, the one that an Accept-Encoding header likes best; empty for none."""
    best, weight = b"", 0.0
    for item in header.lower().split(b","):
        coding, _, parameter = item.partition(b";")
        try:
            quality = float(parameter.partition(b"=")[2]) if parameter else 1.0
        except ValueError:
            continue
        if coding.strip() in _WBITS and quality > weight:
            best, weight = coding.strip(), quality
    return best
