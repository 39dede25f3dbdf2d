"""JSON of which only the numbers are new: what stands around them is known letter by letter, and not read again.

A client's requests differ in their numbers alone, and so do the answers to them. Whatever is not so is for
``json_tensors``, which also is where all that is known here comes from.
"""

# B rows

from __future__ import annotations

import struct
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.wire.inference import InferRequest
from quorate.deployments.wire.json_tensors import BinaryOutputs

Array = NDArray[Any]
T = TypeVar("T")
# How many are known, and how long what stands around the numbers may be.
MAX_KNOWN, MAX_AROUND_BYTES = 1024, 4096
_FORMATS = {np.dtype(np.float32): "f", np.dtype(np.float64): "d"}
_PROBES: tuple[list[float], ...] = ([7.25], [8.5])
_NUMBERS = orjson.OPT_SERIALIZE_NUMPY


@dataclass(slots=True)
class KnownRequest(Generic[T]):
    """All requests that are alike but for the numbers of their one tensor.

    Attributes:
        request: without numbers.
        numbers: how many there are.
        note: of whoever reads them.
    """

    request: InferRequest
    binary: BinaryOutputs
    numbers: int
    note: T
    _behind: bytes
    _name: str
    _shape: tuple[int, ...]
    _dtype: np.dtype[Any]
    _packed: struct.Struct

    def read(self, numbers: bytes) -> InferRequest | None:
        """The request with these numbers, a list of JSON; None where they are none, too many, or out of range."""
        if b"u" in numbers or b"l" in numbers or b'"' in numbers:  # true, false, null, and what is quoted
            return None
        try:
            data = self._packed.pack(*orjson.loads(numbers))
        except (ValueError, TypeError, OverflowError, struct.error):
            return None
        like, array = self.request, np.ndarray(self._shape, self._dtype, data)
        return InferRequest(like.model, {self._name: array}, like.version, "", like.outputs, like.parameters)


class KnownRequests(Generic[T]):
    """Those to one model."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownRequest[T]] = {}

    def find(self, body: bytes) -> tuple[KnownRequest[T], bytes] | None:
        """What is known of a request, and its numbers; None where nothing is."""
        begin, end = _place(body)
        known = self._known.get(body[:begin])
        return (known, body[begin:end]) if known is not None and known._behind == body[end:] else None

    def learn(self, body: bytes, request: InferRequest, binary: BinaryOutputs, note: T) -> None:
        """Know requests such as this one, which has been read from its body, unless they have more that may be new."""
        if len(request.inputs) != 1 or request.id or request.classification:
            return
        ((name, array),) = request.inputs.items()
        begin, end = _place(body)
        before, behind, kind = body[:begin], body[end:], _FORMATS.get(array.dtype)
        if kind is None or len(before) + len(behind) > MAX_AROUND_BYTES or not _numbers_alone(body, begin, end):
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        packed = struct.Struct(f"<{array.size}{kind}")
        like = InferRequest(request.model, {}, request.version, "", request.outputs, request.parameters)
        self._known[before] = KnownRequest(
            like, binary, array.size, note, behind, name, array.shape, array.dtype, packed
        )


def _place(body: bytes) -> tuple[int, int]:
    """Where the list behind the first name ``data`` begins and ends; anywhere where there is none."""
    begin = body.find(b"[", body.find(b'"data"'))
    return begin, body.find(b"]", begin) + 1


def _numbers_alone(body: bytes, begin: int, end: int) -> bool:
    """Whether this part of a body is the data of its one tensor, whatever numbers stand there.

    JSON has no context: where one list can be put in the place of another, any can.
    """
    try:
        whole, flat = orjson.loads(body), orjson.loads(body[begin:end])
        data = next(one for one in _PROBES if one != flat)
        probed = orjson.loads(body[:begin] + orjson.dumps(data) + body[end:])
        there, put = whole["inputs"][0].pop("data"), probed["inputs"][0].pop("data")
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
    return bool(there == flat and put == data and probed == whole)


class KnownAnswers:
    """Answers with one tensor, by whatever tells them apart but for its numbers and a few texts."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[bytes, ...]] = {}

    def write(self, key: Hashable, values: Array, *texts: str) -> bytes | None:
        """The answer with these values, (B, ...) floats, and texts; None where it is not known."""
        around = self._known.get(key)
        if around is None:
            return None
        parts: list[bytes] = []
        for before, text in zip(around, texts, strict=False):
            parts += before, orjson.dumps(text)
        parts += around[-2], orjson.dumps(values.ravel(), option=_NUMBERS), around[-1]
        return b"".join(parts)

    def learn(self, key: Hashable, body: bytes, values: Array, *texts: str) -> None:
        """Know answers such as this one, whose texts stand before its data, in their order and once."""
        around: list[bytes] = []
        for mark in (*map(orjson.dumps, texts), orjson.dumps(values.ravel(), option=_NUMBERS)):
            before, found, body = body.partition(mark)
            if not found or mark in body:
                return
            around.append(before)
        if not around[-1].endswith(b'"data":'):
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[key] = *around, body
