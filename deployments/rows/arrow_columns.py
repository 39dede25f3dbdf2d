"""Arrow's arrays, of whatever type, as columns."""

# R rows, n leaves

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quorate.deployments.rows.column import UNEVEN_FIX, Column, Place, of_shapes

_FILL = {"b": False, "i": 0, "u": 0, "f": 0.0}


def column_of(array: Any, place: Place, written: bool = False) -> Column:
    """A column of an Arrow array.

    Args:
        array: ``pa.Array`` or ``pa.ChunkedArray``.
        written: it is text because its source has no types.

    Raises:
        RowsError: lists of different lengths within a row, a list that is missing, or a type that holds neither numbers
            nor text.
    """
    whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    kind, rows = str(whole.type), len(whole)
    inner, sizes = _flat(whole, place)
    shapes = None
    if sizes is None:
        inner, shapes = _flat_uneven(whole, place)
    values = _leaves(inner, kind, place)
    missing = inner.is_null().to_numpy(zero_copy_only=False) if inner.null_count else None
    leaf_kind = str(inner.type) if pa.types.is_fixed_size_binary(inner.type) else kind
    if shapes is not None:
        return of_shapes(values, shapes, missing=missing, kind=leaf_kind, written=written)
    return Column(values, tuple(sizes or ()), rows, missing, leaf_kind, written)


def _flat(array: Any, place: Place) -> tuple[Any, list[int] | None]:
    """The leaves, and the shape of a row; None where lists of one level have other lengths."""
    inner, sizes = array, list[int]()
    while True:
        inner = _plain(inner)
        per_row = max(math.prod(sizes), 1)
        if isinstance(inner.type, pa.FixedShapeTensorType):
            _refuse_null_lists(inner, np.arange(len(inner)) // per_row, place)
            sizes += _tensor_shape(inner.type, place)
            inner = inner.storage.flatten()
        elif _is_list(inner.type):
            _refuse_null_lists(inner, np.arange(len(inner)) // per_row, place)
            lengths = _lengths(inner)
            if len(lengths) and (lengths != lengths[0]).any():
                return inner, None
            sizes.append(int(lengths[0]) if len(lengths) else 0)
            inner = inner.flatten()
        else:
            return inner, sizes


def _flat_uneven(array: Any, place: Place) -> tuple[Any, NDArray[np.int64]]:
    """The leaves, and (R, d) the shapes of the rows, each of which is even."""
    rows = len(array)
    inner, sizes, owner = array, list[NDArray[np.int64]](), np.arange(rows)
    while True:
        inner = _plain(inner)
        if isinstance(inner.type, pa.FixedShapeTensorType):
            found = _tensor_shape(inner.type, place)
            sizes += [np.full(rows, size) for size in found]
            owner, inner = owner.repeat(math.prod(found)), inner.storage.flatten()
        elif _is_list(inner.type):
            _refuse_null_lists(inner, owner, place)
            lengths = _lengths(inner)
            of_row = np.zeros(rows, np.int64)
            of_row[owner] = lengths
            if (odd := np.flatnonzero(lengths != of_row[owner])).size:
                raise place.error(int(owner[odd[0]]), "lists of other lengths in it", UNEVEN_FIX)
            sizes.append(of_row)
            owner, inner = owner.repeat(lengths), inner.flatten()
        else:
            return inner, np.stack(sizes, axis=1)


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


def _refuse_null_lists(array: Any, owner: NDArray[np.int64], place: Place) -> None:
    """Args: owner: the row that each list is of."""
    if array.null_count:
        first = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise place.error(int(owner[first]), "a list is missing", "give every row a list")


def _lengths(lists: Any) -> NDArray[np.int64]:
    """Of each list."""
    if pa.types.is_fixed_size_list(lists.type):
        return np.full(len(lists), lists.type.list_size, np.int64)
    return np.asarray(lists.value_lengths().to_numpy(zero_copy_only=False), np.int64)


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
