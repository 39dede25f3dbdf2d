"""A column's leaves as one datatype, judged by value: what the datatype cannot hold is refused by row and column.

Numbers between two of a floating-point type are rounded to the nearer one, as everywhere; nothing else is changed.
"""

# n leaves

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from quorate.deployments.rows.column import Array, Column, Place
from quorate.deployments.rows.written import bad_number, typed, words_of
from quorate.deployments.wire.datatypes import bytes_array, has_name, name_of, numpy_dtype

MISSING_FIX = "give every row a value, or declare the input FP32 or FP64, where a missing value is NaN"


def fitted(column: Column, datatype: str | None, place: Place) -> Array:
    """(n,) leaves of this datatype.

    Args:
        datatype: of the Open Inference Protocol; the column's own when None, BYTES of text.

    Raises:
        RowsError: a value is of another kind, beyond the datatype, or missing where it knows no missing values.
    """
    if datatype is None:
        column, written = typed(column), column.written
        datatype = own_datatype(column, place)
        datatype = "FP64" if written and datatype != "BYTES" else datatype  # whatever the next batch looks like
    if datatype == "BYTES":
        return _bytes(column, place)
    if datatype == "BF16" and (bits := _bf16_bits(column)) is not None:
        return bits
    column = _numbers(column, datatype, place)
    dtype = numpy_dtype(datatype)
    if dtype.kind in "iub":
        return _whole(column, datatype, dtype, place)
    return _floats(column, datatype, dtype, place)


def own_datatype(column: Column, place: Place) -> str:
    """The datatype that holds what a column holds."""
    values = column.values
    if values.dtype != object:
        if has_name(values.dtype.newbyteorder("=")):
            return name_of(values.dtype.newbyteorder("="))
        raise place.whole(f"holds {column.kind}", "give numbers or text")
    first = next((value for value in values.tolist() if value is not None), "")
    return "BYTES" if isinstance(first, str | bytes) else "FP64"


def _bytes(column: Column, place: Place) -> Array:
    values = column.values
    if values.dtype != object:
        if not _all_missing(column):
            raise place.whole(f"holds {column.kind}, the model reads BYTES", "write it as text")
        return bytes_array([b""] * len(values))
    items = values.tolist()
    if column.missing is not None:
        items = [b"" if gone else item for item, gone in zip(items, column.missing.tolist(), strict=True)]
    for leaf, item in enumerate(items):
        if isinstance(item, str):
            items[leaf] = item.encode("utf-8", "surrogatepass")
        elif not isinstance(item, bytes):
            found = f"{item!r:.60}, the model reads BYTES"
            raise place.error(column.row_of(leaf), found, "write it as text")
    return bytes_array(items)


def _all_missing(column: Column) -> bool:
    """Whether a column of numbers is what pandas makes of text that is missing in every row."""
    missing = np.zeros(len(column.values), bool) if column.missing is None else column.missing
    if column.values.dtype.kind == "f":
        missing = missing | np.isnan(column.values)
    return bool(len(missing)) and bool(missing.all())


def _bf16_bits(column: Column) -> Array | None:
    """Arrow and NumPy have no BF16 of their own: it comes as two bytes a number."""
    values = column.values
    if values.dtype == ml_dtypes.bfloat16:
        return values if column.missing is None else None
    if values.dtype.kind == "V" and values.dtype.itemsize == 2:
        bits: Array = np.ascontiguousarray(values).view(ml_dtypes.bfloat16)
        return bits
    if column.kind == "fixed_size_binary[2]" and column.missing is None:
        return np.frombuffer(b"".join(values.tolist()), ml_dtypes.bfloat16)
    return None


def _numbers(column: Column, datatype: str, place: Place) -> Column:
    """The same with values that are numbers of NumPy's, or objects that are numbers of Python's."""
    if column.written:
        found = typed(column)
        if found.values.dtype == object and not _no_leaf(found):
            words, absent = words_of(column)
            leaf = bad_number(np.where(absent, "0", words))
            raise place.error(found.row_of(leaf), f"'{words[leaf]:.60}' is no {datatype}", "give a number")
        column = found
    if _no_leaf(column):
        missing = np.ones(len(column.values), bool)
        return replace(column, values=np.zeros(len(missing)), missing=missing, written=False)
    if column.values.dtype.kind in "biuf" or column.values.dtype == ml_dtypes.bfloat16:
        return column
    if column.values.dtype != object:
        raise place.whole(f"holds {column.kind}, the model reads {datatype}", "give numbers")
    for leaf, value in enumerate(column.values.tolist()):
        if value is not None and not isinstance(value, int | float | Decimal | np.number | np.bool_):
            found_ = f"{value!r:.60}, the model reads {datatype}"
            raise place.error(column.row_of(leaf), found_, "give a number")
    return column


def _no_leaf(column: Column) -> bool:
    return len(column.values) > 0 and column.missing is not None and bool(column.missing.all())


def _floats(column: Column, datatype: str, dtype: np.dtype[Any], place: Place) -> Array:
    values = column.values
    if values.dtype == object:
        values = _as_float64(column, place, datatype)
    if values.dtype == dtype and column.missing is None:
        return values
    with np.errstate(over="ignore"):
        found = values.astype(dtype)
    if values.dtype.kind != "b":
        beyond = np.isinf(found) & np.isfinite(values)
        if column.missing is not None:
            beyond &= ~column.missing
        if beyond.any():
            raise _beyond(column, int(np.flatnonzero(beyond)[0]), datatype, place)
    if column.missing is not None and column.missing.any():
        found = np.array(found)
        found[column.missing] = np.nan
    return found


def _as_float64(column: Column, place: Place, datatype: str) -> NDArray[np.float64]:
    found = np.empty(len(column.values))
    for leaf, value in enumerate(column.values.tolist()):
        try:
            found[leaf] = np.nan if value is None else float(value)
        except OverflowError:
            raise _beyond(column, leaf, datatype, place) from None
    return found


def _whole(column: Column, datatype: str, dtype: np.dtype[Any], place: Place) -> Array:
    """Integers, or booleans that may come as 0 and 1."""
    values = column.values
    absent = np.zeros(len(values), bool) if column.missing is None else column.missing
    if values.dtype.kind == "f" or values.dtype == ml_dtypes.bfloat16:
        absent = absent | np.isnan(values)
    if absent.any():
        found = f"missing, and {datatype} knows no missing values"
        raise place.error(column.row_of(int(np.flatnonzero(absent)[0])), found, MISSING_FIX)
    if values.dtype == dtype:
        return values
    if values.dtype == object:
        return _whole_objects(column, datatype, dtype, place)
    with np.errstate(invalid="ignore"):
        if values.dtype.kind not in "biu" and (values != np.trunc(values)).any():
            leaf = int(np.flatnonzero(values != np.trunc(values))[0])
            raise place.error(column.row_of(leaf), f"{values[leaf]} is no {datatype}", "give whole numbers, or FP32")
        low, high = _limits(dtype)
        bad = (values < low) | (values > high) if values.dtype.kind in "iu" else _outside(values, low, high)
    if bad.any():
        raise _beyond(column, int(np.flatnonzero(bad)[0]), datatype, place)
    return values.astype(dtype)


def _whole_objects(column: Column, datatype: str, dtype: np.dtype[Any], place: Place) -> Array:
    low, high = _limits(dtype)
    for leaf, value in enumerate(column.values.tolist()):
        row = column.row_of(leaf)
        if value != value or value in (float("inf"), float("-inf")) or value != int(value):
            raise place.error(row, f"{value} is no {datatype}", "give whole numbers, or FP32")
        if not low <= value <= high:
            raise _beyond(column, leaf, datatype, place)
    return np.array([int(value) for value in column.values.tolist()], dtype)


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    if dtype.kind == "b":
        return 0, 1
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _outside(values: Array, low: int, high: int) -> NDArray[np.bool_]:
    """Floats beyond whole limits: float64 has no 2**63 - 1, but the number above it."""
    wide = values.astype(np.float64)
    return np.asarray((wide < float(low)) | (wide >= float(high + 1)))


def _beyond(column: Column, leaf: int, datatype: str, place: Place) -> Exception:
    dtype = numpy_dtype(datatype)
    limits = ""
    if dtype.kind in "iub":
        low, high = _limits(dtype)
        limits = f" (it goes from {low} to {high})"
    fix = "give numbers that it holds, or the input a wider datatype"
    return place.error(column.row_of(leaf), f"{column.values[leaf]} is beyond {datatype}{limits}", fix)
