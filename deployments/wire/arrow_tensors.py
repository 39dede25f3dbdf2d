"""Arrow columns and the protocol's tensors: (B, *shape) arrays in, columns out. Nothing is ever cast.

A missing value is NaN among floating-point numbers and the empty string among BYTES, as everywhere in Quorate.

A row of one number is a plain column, a row of several a (fixed-size) list, nested for more dimensions, or a
``fixed_shape_tensor``. BYTES are binary or strings; BF16, for which Arrow has no type, is ``fixed_size_binary(2)``.
"""

# B rows

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.datatypes import bytes_array, numpy_dtype

Array = NDArray[Any]
_TYPES: dict[str, tuple[pa.DataType, ...]] = {
    "BOOL": (pa.bool_(),),
    "UINT8": (pa.uint8(),),
    "UINT16": (pa.uint16(),),
    "UINT32": (pa.uint32(),),
    "UINT64": (pa.uint64(),),
    "INT8": (pa.int8(),),
    "INT16": (pa.int16(),),
    "INT32": (pa.int32(),),
    "INT64": (pa.int64(),),
    "FP16": (pa.float16(),),
    "BF16": (pa.binary(2),),
    "FP32": (pa.float32(),),
    "FP64": (pa.float64(),),
    "BYTES": (pa.binary(), pa.string(), pa.large_binary(), pa.large_string()),
}


def check_type(name: str, found: pa.DataType, datatype: str) -> None:
    """Refuse a column that holds anything but ``datatype``.

    Raises:
        RequestError: it does.
    """
    leaf = found
    while True:
        if isinstance(leaf, pa.FixedShapeTensorType):
            if leaf.permutation is not None and list(leaf.permutation) != sorted(leaf.permutation):
                raise RequestError(f"column '{name}' holds permuted tensors; write them in row-major order")
            leaf = leaf.value_type
        elif _is_list(leaf):
            leaf = leaf.value_type
        else:
            break
    if leaf not in _TYPES[datatype]:
        raise RequestError(
            f"column '{name}' holds {leaf}; the model reads {datatype}: cast it to {_TYPES[datatype][0]}"
        )


def read_column(name: str, column: pa.Array, datatype: str, shape: tuple[int, ...]) -> Array:
    """A column of a checked type as an array.

    Args:
        shape: one row's in the model; a flat list of as many elements is given this shape.

    Returns:
        (B, *shape of a row), without a copy where the type allows.

    Raises:
        RequestError: a list is missing, or of another length than the first, or an integer or a boolean is missing.
    """
    rows, inner = len(column), column
    sizes: list[int] = []
    while True:
        per_row = max(math.prod(sizes), 1)
        if inner.null_count:
            if inner.type in _TYPES[datatype] and (datatype == "BYTES" or numpy_dtype(datatype).kind not in "iub"):
                return _shaped(_with_missing(inner, datatype), rows, sizes, shape)
            row = int(np.flatnonzero(inner.is_null().to_numpy(zero_copy_only=False))[0]) // per_row
            raise RequestError(f"column '{name}' is null in row {row}; give every row a value")
        if isinstance(inner.type, pa.FixedShapeTensorType):
            sizes += inner.type.shape
            inner = inner.storage.flatten()
        elif pa.types.is_fixed_size_list(inner.type):
            sizes.append(inner.type.list_size)
            inner = inner.flatten()
        elif _is_list(inner.type):
            sizes.append(_even_length(name, inner, per_row))
            inner = inner.flatten()
        else:
            break
    return _shaped(_values(inner, datatype), rows, sizes, shape)


def _shaped(values: Array, rows: int, sizes: list[int], shape: tuple[int, ...]) -> Array:
    """A flat list, or one plain number, may stand for a row of more dimensions."""
    if -1 not in shape and len(sizes) <= 1 and math.prod(sizes) == math.prod(shape):
        sizes = list(shape)
    return values.reshape(rows, *sizes)


def _with_missing(leaf: pa.Array, datatype: str) -> Array:
    if datatype == "BYTES":
        return _values(leaf.fill_null(pa.scalar(b"" if _is_binary(leaf.type) else "", leaf.type)), datatype)
    absent = leaf.is_null().to_numpy(zero_copy_only=False)
    values = np.array(_values(leaf, datatype) if datatype == "BF16" else leaf.to_numpy(zero_copy_only=False))
    values = values.astype(numpy_dtype(datatype), copy=False)
    values[absent] = np.nan
    return values


def _is_binary(found: pa.DataType) -> bool:
    return bool(pa.types.is_binary(found) or pa.types.is_large_binary(found))


def write_column(array: Array, free: bool = False) -> pa.Array:
    """(B, ...) as a column.

    Args:
        free: other batches may have rows of other sizes: the type says none of them.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype == object:
        leaf = pa.array(flat.tolist(), pa.binary())
    elif array.dtype == ml_dtypes.bfloat16:
        leaf = pa.Array.from_buffers(pa.binary(2), len(flat), [None, pa.py_buffer(flat.view(np.uint8))])
    else:
        leaf = pa.array(flat)
    if array.ndim == 1:
        return leaf
    shape = array.shape[1:]
    if free:
        for size in reversed(shape):
            leaf = pa.ListArray.from_arrays(np.arange(0, len(leaf) + 1, size, dtype=np.int32), leaf)
        return leaf
    lists = pa.FixedSizeListArray.from_arrays(leaf, math.prod(shape))
    if array.ndim == 2:
        return lists
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(leaf.type, shape), lists)


def _is_list(found: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_fixed_size_list(found) or types.is_list(found) or types.is_large_list(found))


def _even_length(name: str, lists: pa.Array, per_row: int) -> int:
    lengths = lists.value_lengths().to_numpy()
    uneven = np.flatnonzero(lengths != lengths[0]) if len(lengths) else lengths
    if len(uneven):
        row = int(uneven[0]) // per_row
        found = f"{lengths[uneven[0]]} elements in row {row} and {lengths[0]} before"
        raise RequestError(f"column '{name}' has {found}; give all rows of a record batch one shape")
    return int(lengths[0]) if len(lengths) else 0


def _values(leaf: pa.Array, datatype: str) -> Array:
    if datatype == "BYTES":
        return bytes_array(leaf.cast(pa.large_binary()).to_pylist())
    if datatype == "BF16":
        bits = np.frombuffer(leaf.buffers()[1] or b"", np.uint16)
        return bits[leaf.offset : leaf.offset + len(leaf)].view(ml_dtypes.bfloat16)
    values: Array = leaf.to_numpy(zero_copy_only=datatype != "BOOL")
    return values
