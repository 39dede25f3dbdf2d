"""Arrow's arrays, of whatever type, as columns."""

# R rows, n leaves

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quorate.deployments.rows.column import UNEVEN_FIX, Column, Place

_FILL = {"b": False, "i": 0, "u": 0, "f": 0.0}


def column_of(array: Any, place: Place, written: bool = False) -> Column:
    """A column of an Arrow array.

    Args:
        array: ``pa.Array`` or ``pa.ChunkedArray``.
        written: it is text because its source has no types.

    Raises:
        RowsError: rows of different lengths, a list that is missing, or a type that holds neither numbers nor text.
    """
    inner = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    kind = str(inner.type)
    rows, sizes = len(inner), list[int]()
    while True:
        inner = _plain(inner)
        if isinstance(inner.type, pa.FixedShapeTensorType):
            _refuse_null_lists(inner, rows, sizes, place)
            sizes += _tensor_shape(inner.type, place)
            inner = inner.storage.flatten()
        elif _is_list(inner.type):
            _refuse_null_lists(inner, rows, sizes, place)
            sizes.append(_length(inner, sizes, place))
            inner = inner.flatten()
        else:
            break
    values = _leaves(inner, kind, place)
    missing = inner.is_null().to_numpy(zero_copy_only=False) if inner.null_count else None
    leaf_kind = str(inner.type) if pa.types.is_fixed_size_binary(inner.type) else kind
    return Column(values, tuple(sizes), rows, missing, leaf_kind, written)


def _plain(array: Any) -> Any:
    """Without dictionaries, runs, extensions that only name what they store, and Hugging Face's image structs."""
    while True:
        kind = array.type
        if pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
        elif pa.types.is_run_end_encoded(kind):
            array = pc.run_end_decode(array)
        elif isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.FixedShapeTensorType):
            array = array.storage
        elif pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}:
            array = pc.struct_field(array, "bytes")
        elif pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
            # Not cast: of an array out of a file pyarrow 26 makes lists whose offsets are too few.
            array = pa.array(array.to_pylist(), pa.large_list(kind.value_type))
        else:
            return array


def _is_list(found: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_fixed_size_list(found) or types.is_list(found) or types.is_large_list(found))


def _tensor_shape(kind: Any, place: Place) -> list[int]:
    if kind.permutation is not None and list(kind.permutation) != sorted(kind.permutation):
        raise place.whole("holds permuted tensors", "write them in row-major order")
    return list(kind.shape)


def _refuse_null_lists(array: Any, rows: int, sizes: list[int], place: Place) -> None:
    if array.null_count:
        first = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise place.error(first // max(math.prod(sizes), 1), "a list is missing", "give every row a list")


def _length(lists: Any, sizes: list[int], place: Place) -> int:
    if pa.types.is_fixed_size_list(lists.type):
        return int(lists.type.list_size)
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    uneven = np.flatnonzero(lengths != lengths[0]) if len(lengths) else lengths
    if len(uneven):
        found = f"a list of {lengths[uneven[0]]}, and of {lengths[0]} before"
        raise place.error(int(uneven[0]) // max(math.prod(sizes), 1), found, UNEVEN_FIX)
    return int(lengths[0]) if len(lengths) else 0


def _leaves(array: Any, kind: str, place: Place) -> NDArray[Any]:
    types, found = pa.types, array.type
    if types.is_null(found):
        return np.full(len(array), None, dtype=object)
    if types.is_boolean(found) or types.is_integer(found) or types.is_floating(found):
        fill = _FILL[np.dtype(found.to_pandas_dtype()).kind]
        filled = array.fill_null(pa.scalar(fill, found)) if array.null_count else array
        return np.asarray(filled.to_numpy(zero_copy_only=False))
    if types.is_decimal(found) or _is_text(found):
        return _objects(array, place)
    if types.is_temporal(found):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    raise place.whole(f"holds {kind}", "give numbers, text, or lists of them")


def _is_text(found: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(found) or types.is_large_string(found) or types.is_binary(found)
        or types.is_large_binary(found) or types.is_fixed_size_binary(found)
        or types.is_string_view(found) or types.is_binary_view(found)
    )  # fmt: skip


def _objects(array: Any, place: Place) -> NDArray[Any]:
    try:
        listed = array.to_pylist()
    except UnicodeDecodeError:
        raise place.whole("holds text that is no UTF-8", "write it again, or as binary") from None
    found = np.empty(len(listed), dtype=object)
    found[:] = listed
    return found
