"""What travels between a fusion replica and a member replica: a fixed small header and raw tensor bytes.

A message is a list of frames: one header, then one frame per tensor. Nothing in it is ever unpickled.
"""

# B rows

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.transport.version import OLDEST, VERSION
from quorate.deployments.wire.binary_tensors import decode, encode
from quorate.deployments.wire.datatypes import BY_CODE, CODES, name_of, numpy_dtype

Array = NDArray[Any]
Frame = bytes | memoryview

_HEADER = struct.Struct("<2sBBQf")  # magic, kind, number of tensors, call id, Message.number
HEADER_BYTES = _HEADER.size
_TENSOR = struct.Struct("<BB")  # datatype code, number of dimensions
_DIM = struct.Struct("<q")
_MAGIC = b"Q1"
# An answer may have so many bytes, and so many more for each row that was asked for.
_ANSWER_BYTES, _ANSWER_ROW_BYTES = 128 << 20, 8 << 20
# Batches come in few sizes: how a tensor is described, and what a description says, is remembered for so many.
_REMEMBERED = 4096


class Kind(IntEnum):
    """Requests are below 16, replies above."""

    CALL = 1  # run these rows and give what the spec calls the output
    CALL_PROBABILITIES = 2  # the same, as probabilities over the ensemble's classes
    CANCEL = 3  # nobody waits for this call any more
    HELLO = 4  # a fusion replica says that it is there
    CONTEXT = 5  # of the call of this number, which comes next: whose it is, as ``telemetry.call_context`` has it
    TELEMETRY = 6  # what is traced and how logs are written, as ``telemetry.settings`` has it
    CALL_MEMBERS = 7  # the same rows for several members of one process, each a call: see ``pack_for_members``
    ANSWER = 16
    FAILURE = 17  # the whole call failed; the second frame says why
    WELCOME = 18  # the answer to HELLO
    LEAVING = 19  # the replica drains: finish what is under way, send nothing new
    UNKNOWN = 255  # never sent: a message of a later version of the wire


_KINDS = {int(kind): kind for kind in Kind if kind is not Kind.UNKNOWN}
# Of these the second frame is text. Looking a number up is quicker than comparing with members of an enum.
_TEXTS = frozenset(map(int, (Kind.FAILURE, Kind.CONTEXT, Kind.TELEMETRY)))


@dataclass(slots=True)
class Message:
    """A parsed message.

    Attributes:
        number: seconds left in a call, seconds of inference in an answer, the version of the wire in HELLO and WELCOME.
        call_id: in HELLO and WELCOME the oldest version that is understood.
    """

    kind: Kind
    call_id: int
    number: float
    tensors: tuple[Array, ...]
    text: str = ""


class Payload:
    """Tensors ready to be sent, as often as need be: the same rows go to every member.

    Attributes:
        tensors: as they were given.
        rows: B, of the first.
        nbytes: of all of them.
        described: datatypes and shapes.
        frames: the bytes of each, as they are sent; members of this process are sent nothing.
        stream: what stands before and behind the header in a message of them, once one has been sent (``framing``).
    """

    def __init__(self, tensors: Sequence[Array]):
        self.tensors = tensors
        self.rows = len(tensors[0]) if tensors and tensors[0].ndim else 0
        self.stream: tuple[bytes, bytes] | None = None

    @cached_property
    def described(self) -> bytes:
        return b"".join([_describe(tensor.dtype, tensor.shape) for tensor in self.tensors])

    @cached_property
    def frames(self) -> list[Frame]:
        return [encode(tensor) for tensor in self.tensors]

    @cached_property
    def nbytes(self) -> int:
        return sum(map(len, self.frames))


class FramingError(ValueError):
    """Bytes or frames that are no message of ours."""


def pack(kind: Kind, call_id: int = 0, number: float = 0.0, tensors: Sequence[Array] | Payload = ()) -> list[Frame]:
    body = tensors if isinstance(tensors, Payload) else Payload(tensors)
    return [pack_header(kind, len(body.frames), call_id, number) + body.described, *body.frames]


def pack_header(kind: Kind, count: int, call_id: int, number: float) -> bytes:
    """What every message begins with, ``HEADER_BYTES`` long; it has ``count`` tensors."""
    return _HEADER.pack(_MAGIC, kind, count, call_id, number)


def pack_greeting(kind: Kind) -> list[Frame]:
    """HELLO or WELCOME, with the versions of the wire that are spoken here."""
    return pack(kind, OLDEST, VERSION)


def max_answer_bytes(rows: int) -> int:
    """What an answer about so many rows may take: a model may return anything at all."""
    return _ANSWER_BYTES + rows * _ANSWER_ROW_BYTES


def pack_for_members(calls: Sequence[tuple[int, int, Kind]], number: float, payload: Payload) -> list[Frame]:
    """Calls that ask members of one process about the same rows, which travel once.

    Args:
        calls: of each its number, the member's place in the process, and CALL or CALL_PROBABILITIES.
        number: seconds left.
    """
    asked = Payload([np.array(calls, np.int64)])
    header = pack_header(Kind.CALL_MEMBERS, 1 + len(payload.frames), 0, number)
    return [header + asked.described + payload.described, *asked.frames, *payload.frames]


def pack_failure(call_id: int, text: str) -> list[Frame]:
    return pack_text(Kind.FAILURE, text.encode(), call_id)


def pack_text(kind: Kind, text: bytes, call_id: int = 0) -> list[Frame]:
    """A message of one of the kinds that hold text, UTF-8."""
    return [_HEADER.pack(_MAGIC, kind, 0, call_id, 0.0), text]


def unpack(frames: Sequence[Frame]) -> Message:
    """Parse a message.

    Raises:
        FramingError: the frames are not a message of this version.
    """
    try:
        magic, number, count, call_id, seconds = _HEADER.unpack_from(frames[0])
        kind = _KINDS.get(number)
        if magic != _MAGIC:
            raise FramingError(f"message starts with {magic!r}, not one of ours")
        if kind is None:
            return Message(Kind.UNKNOWN, call_id, seconds, (), str(number))
        if number in _TEXTS:
            return Message(kind, call_id, seconds, (), bytes(frames[1]).decode())
        if len(frames) < 1 + count:
            raise FramingError(f"header names {count} tensors but {len(frames) - 1} follow")
        described = _read_description(bytes(frames[0][_HEADER.size :]), count)
        tensors = []
        # Behind the tensors a later version may have more.
        for frame, (datatype, dtype, shape, nbytes) in zip(frames[1 : 1 + count], described, strict=True):
            plain = nbytes and len(frame) == nbytes
            tensors.append(np.ndarray(shape, dtype, frame) if plain else decode(frame, datatype, shape))
        return Message(kind, call_id, seconds, tuple(tensors))
    except (struct.error, IndexError, ValueError) as error:
        raise FramingError(str(error)) from None


class _Description(NamedTuple):
    """A tensor to come; ``nbytes`` is 0 for one whose bytes are not simply its numbers."""

    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    nbytes: int


@lru_cache(_REMEMBERED)
def _describe(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_DIM.pack(size) for size in shape)
    return _TENSOR.pack(CODES[name_of(dtype)], len(shape)) + dims


@lru_cache(_REMEMBERED)
def _read_description(described: bytes, count: int) -> tuple[_Description, ...]:
    found, at = [], 0
    for _ in range(count):
        code, ndim = _TENSOR.unpack_from(described, at)
        shape = struct.unpack_from(f"<{ndim}q", described, at + _TENSOR.size)
        at += _TENSOR.size + ndim * _DIM.size
        datatype = BY_CODE[code]
        dtype = numpy_dtype(datatype)
        plain = datatype not in ("BOOL", "BYTES") and min(shape, default=1) > 0
        found.append(_Description(datatype, dtype, shape, dtype.itemsize * math.prod(shape) if plain else 0))
    return tuple(found)
