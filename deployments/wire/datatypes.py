"""The Open Inference Protocol's datatypes and what they are in NumPy."""

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


def bytes_array(items: Sequence[bytes]) -> NDArray[Any]:
    """(n,) BYTES elements; ``np.array`` would drop the zeros at their ends."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def zeros(datatype: str, shape: Sequence[int], rows: int) -> NDArray[Any]:
    """(rows, *shape) of zeros or empty strings."""
    full = (rows, *shape)
    return np.full(full, b"", dtype=object) if datatype == "BYTES" else np.zeros(full, dtype=numpy_dtype(datatype))
