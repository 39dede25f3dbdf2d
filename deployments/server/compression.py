"""Bodies unpacked and answers packed, by the codings that HTTP names: gzip and deflate."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

from quorate.deployments.errors import RequestError
from quorate.deployments.server.heavy_work import HeavyWork

Headers = list[tuple[bytes, bytes]]

_WBITS = {b"gzip": 31, b"deflate": 15}  # HTTP's deflate is the zlib format (RFC 9110, 8.4.1.2)
# Longer work is done on another thread, so that the event loop goes on. Packed bytes may grow a thousandfold.
PACK_INLINE_BYTES, UNPACK_INLINE_BYTES = 32 << 10, 1 << 10
# Unpacked at once: after each piece its size is counted, and the limits are checked.
UNPACK_PIECE_BYTES = 4 << 20
# A shorter answer fits into one packet as it is.
COMPRESS_FROM_BYTES = 1024


async def unpack(body: bytes, coding: bytes, count: Callable[[int], None], heavy: HeavyWork) -> bytes:
    """Undo a Content-Encoding.

    Args:
        count: called with the size of each unpacked piece; what it raises ends the work.
        heavy: where a long body is unpacked, piece by piece.

    Raises:
        RequestError: the coding is not known, or the body is not what it says.
    """
    wbits = _WBITS.get(coding)
    if wbits is None:
        raise RequestError(f"Content-Encoding is {coding[:40]!r}; use gzip, deflate or none")
    stream = zlib.decompressobj(wbits)
    pieces: list[bytes] = []
    packed = body
    try:
        while not stream.eof:
            next_piece = partial(stream.decompress, packed, UNPACK_PIECE_BYTES)
            piece = await heavy.run(len(body), next_piece, UNPACK_INLINE_BYTES)
            if not piece and not stream.eof:
                break  # the body ends before its stream does
            count(len(piece))
            pieces.append(piece)
            packed = stream.unconsumed_tail
    except zlib.error as error:
        raise RequestError(f"the body is not {coding.decode()} ({error}); pack it again") from None
    if not stream.eof or stream.unused_data:
        raise RequestError(f"the body does not end where its {coding.decode()} stream does; pack it again")
    return b"".join(pieces)


async def pack_answer(body: bytes, headers: Headers, heavy: HeavyWork) -> tuple[bytes, Headers]:
    """Compress an answer if the client takes it so; returns it with the header that says how."""
    if len(body) < COMPRESS_FROM_BYTES:
        return body, []
    coding = accepted_coding(headers)
    if not coding:
        return body, []
    packed = await heavy.run(len(body), partial(_pack, body, coding), PACK_INLINE_BYTES)
    return packed, [(b"content-encoding", coding), (b"vary", b"accept-encoding")]


def accepted_coding(headers: Headers) -> bytes:
    """Of the codings we have, the one that a client likes best; empty for none."""
    return _accepted(b",".join([value for name, value in headers if name == b"accept-encoding"]))


def _pack(body: bytes, coding: bytes) -> bytes:
    stream = zlib.compressobj(1, wbits=_WBITS[coding])
    return stream.compress(body) + stream.flush()


def _accepted(header: bytes) -> bytes:
    """The same by an Accept-Encoding header."""
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
