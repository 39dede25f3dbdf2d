"""What travels between a fusion replica and a member replica: a fixed small header and raw tensor bytes.

A message is a list of frames: one header, then one frame per tensor. Nothing in it is ever unpickled.
"""

# B rows

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.datatypes import BY_CODE, CODES, datatype_of, decode, encode

Array = NDArray[Any]
Frame = bytes | memoryview

_HEADER = struct.Struct("<2sBBQf")  # magic, kind, number of tensors or want, call id, seconds left or busy
_TENSOR = struct.Struct("<BB")  # datatype code, number of dimensions
_DIM = struct.Struct("<q")
_MAGIC = b"Q1"


class Kind(IntEnum):
    """Requests are below 16, replies above."""

    CALL = 1  # run these rows and give what the spec calls the output
    CALL_PROBABILITIES = 2  # the same, as probabilities over the ensemble's classes
    CANCEL = 3  # nobody waits for this call any more
    HELLO = 4  # a fusion replica says that it is there
    ANSWER = 16
    FAILURE = 17  # the whole call failed; the second frame says why
    WELCOME = 18  # the answer to HELLO
    LEAVING = 19  # the replica drains: finish what is under way, send nothing new


class RowStatus(IntEnum):
    """Why a row of an answer may not be used; 0 is a good row."""

    OK = 0
    ERROR = 1
    NONFINITE = 2
    SHAPE = 3


@dataclass(frozen=True)
class Message:
    """A parsed message; ``number`` is seconds left in a call and seconds of inference in an answer."""

    kind: Kind
    call_id: int
    number: float
    tensors: tuple[Array, ...]
    text: str = ""


class FramingError(ValueError):
    """A message that our own peers never send."""


def pack(kind: Kind, call_id: int = 0, number: float = 0.0, tensors: Sequence[Array] = ()) -> list[Frame]:
    header = [_HEADER.pack(_MAGIC, kind, len(tensors), call_id, number)]
    frames: list[Frame] = []
    for tensor in tensors:
        header.append(_TENSOR.pack(CODES[datatype_of(tensor)], tensor.ndim))
        header.extend(_DIM.pack(size) for size in tensor.shape)
        frames.append(encode(tensor))
    return [b"".join(header), *frames]


def pack_failure(call_id: int, text: str) -> list[Frame]:
    return [_HEADER.pack(_MAGIC, Kind.FAILURE, 0, call_id, 0.0), text.encode()]


def unpack(frames: Sequence[Frame]) -> Message:
    """Parse a message.

    Raises:
        FramingError: the frames are not a message of this version.
    """
    try:
        magic, kind, count, call_id, number = _HEADER.unpack_from(frames[0])
        if magic != _MAGIC:
            raise FramingError(f"message starts with {magic!r}, not {_MAGIC!r}")
        if kind == Kind.FAILURE:
            return Message(Kind.FAILURE, call_id, number, (), bytes(frames[1]).decode())
        if len(frames) != 1 + count:
            raise FramingError(f"header names {count} tensors but {len(frames) - 1} follow")
        return Message(Kind(kind), call_id, number, _tensors(frames, count))
    except (struct.error, IndexError, ValueError) as error:
        raise FramingError(str(error)) from None


def _tensors(frames: Sequence[Frame], count: int) -> tuple[Array, ...]:
    tensors = []
    at = _HEADER.size
    for frame in frames[1 : 1 + count]:
        code, ndim = _TENSOR.unpack_from(frames[0], at)
        shape = struct.unpack_from(f"<{ndim}q", frames[0], at + _TENSOR.size)
        at += _TENSOR.size + ndim * _DIM.size
        tensors.append(decode(frame, BY_CODE[code], shape))
    return tuple(tensors)
