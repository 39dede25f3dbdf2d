"""The Open Inference Protocol's datatypes and what they are in NumPy and in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

_NUMPY: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
# So few bytes are copied sooner than looked at in place.
COPIED_BYTES = 1 << 12
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(dtype) for name, dtype in _NUMPY.items()}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# The byte that names a datatype between our own processes: its place in this table, so only ever append.
CODES = {name: code for code, name in enumerate(_NUMPY)}
BY_CODE = tuple(_NUMPY)


def numpy_dtype(datatype: str) -> np.dtype[Any]:
    return _DTYPES[datatype]


def datatype_of(array: NDArray[Any]) -> str:
    """The protocol's name for an array's dtype.

    Raises:
        KeyError: the protocol has no such type.
    """
    return name_of(array.dtype)


def name_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name for a dtype; raises as ``datatype_of`` does."""
    return _NAMES[dtype]


def has_name(dtype: np.dtype[Any]) -> bool:
    """Whether the protocol has such a type."""
    return dtype in _NAMES


def encode(array: NDArray[Any]) -> memoryview | bytes:
    """The raw little-endian, row-major bytes of a tensor; BYTES elements are each preceded by their 4-byte length."""
    if array.dtype == object:
        return b"".join(len(item).to_bytes(4, "little") + item for item in array.ravel())
    if array.nbytes <= COPIED_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def decode(data: memoryview | bytes, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A tensor from its raw bytes, without a copy where the type allows (then it is read-only).

    Raises:
        ValueError: the bytes are not as many as datatype and shape need.
    """
    if datatype == "BYTES":
        return _decode_bytes(memoryview(data), shape)
    dtype = numpy_dtype(datatype)
    needed = dtype.itemsize
    for size in shape:
        needed *= size
    if len(data) != needed:
        raise ValueError(f"{datatype} of shape {list(shape)} needs {needed} bytes but has {len(data)}")
    if datatype == "BOOL":  # any byte but 0 is true; NumPy keeps others than 1 as they are
        truth: NDArray[Any] = np.frombuffer(data, np.uint8) != 0
        return truth.reshape(shape)
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _decode_bytes(data: memoryview, shape: tuple[int, ...]) -> NDArray[Any]:
    items: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data) or at + 4 > len(data):
            raise ValueError(f"the length prefix of element {len(items)} points past the end of the data")
        items.append(bytes(data[at + 4 : end]))
        at = end
    count = 1
    for size in shape:
        count *= size
    if len(items) != count:
        raise ValueError(f"BYTES of shape {list(shape)} needs {count} elements but has {len(items)}")
    array = np.empty(count, dtype=object)
    array[:] = items
    return array.reshape(shape)


def zeros(datatype: str, shape: Sequence[int], rows: int) -> NDArray[Any]:
    """(rows, *shape) of zeros or empty strings; a free dimension becomes 1."""
    full = (rows, *(1 if size == -1 else size for size in shape))
    return np.full(full, b"", dtype=object) if datatype == "BYTES" else np.zeros(full, dtype=numpy_dtype(datatype))
