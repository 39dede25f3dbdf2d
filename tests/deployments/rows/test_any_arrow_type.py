"""Columns of every type that Arrow has, cut anywhere: equal to what pyarrow says they hold, or refused by name."""

import datetime as dt
import math
import re
from decimal import Decimal

import ml_dtypes
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.reading import Wanted, read_inputs
from quorate.deployments.wire.datatypes import CODES, numpy_dtype

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=5)


def whole(bits, signed):
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.integers(low, high) | st.sampled_from([low, high, 0, 1])


# Arrow's type of a leaf -> what it may hold, as Python.
LEAVES = [
    *((getattr(pa, f"int{bits}")(), whole(bits, True)) for bits in (8, 16, 32, 64)),
    *((getattr(pa, f"uint{bits}")(), whole(bits, False)) for bits in (8, 16, 32, 64)),
    (pa.float16(), st.floats(width=16).map(np.float16)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats() | st.sampled_from([1e300, 1.5, 2.0, 2.0**63, -(2.0**63), 256.0])),
    (pa.bool_(), st.booleans()),
    *((kind(), WORDS) for kind in (pa.string, pa.large_string, pa.string_view)),
    *((kind(), st.binary(max_size=4)) for kind in (pa.binary, pa.large_binary, pa.binary_view)),
    (pa.binary(2), st.binary(min_size=2, max_size=2)),
    (pa.decimal128(10, 2), st.decimals(-(10**7), 10**7, places=2)),
    (pa.decimal256(50, 0), st.integers(-(10**40), 10**40).map(Decimal)),
    (pa.null(), st.none()),
    (pa.date32(), st.dates()),
    (pa.time64("us"), st.times()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.timestamp("s", "UTC"), st.integers(0, 10**9)),
    (pa.duration("s"), st.timedeltas(dt.timedelta(0), dt.timedelta(99))),
    (pa.struct({"a": pa.int8()}), st.fixed_dictionaries({"a": st.integers(0, 9)})),
    (pa.map_(pa.string(), pa.int8()), st.just([("a", 1)])),
]  # fmt: skip


@st.composite
def columns(draw):
    """An array of some type with some values missing, whole or a slice of a longer one."""
    kind, values = draw(st.sampled_from(LEAVES))
    lists = draw(st.sampled_from(["", "", "", "list", "large_list", "list_view", "fixed", "deep"]))
    if draw(st.integers(0, 3)) == 0:
        values = values | st.none()
    size = draw(st.integers(1, 3))
    if lists == "fixed":
        kind, values = pa.list_(kind, size), st.lists(values, min_size=size, max_size=size)
    elif lists == "deep":
        kind = pa.list_(pa.large_list(kind))
        values = st.lists(st.lists(values, min_size=size, max_size=size), min_size=2, max_size=2)
    elif lists:
        kind = getattr(pa, "list_" if lists == "list" else lists)(kind)
        values = st.lists(values, min_size=size, max_size=size + draw(st.integers(0, 1)))
    array = pa.array(draw(st.lists(values, min_size=1, max_size=6)), kind)
    if not lists and draw(st.booleans()) and not pa.types.is_nested(kind) and not pa.types.is_null(kind):
        array = array.dictionary_encode() if not pa.types.is_binary_view(kind) and kind != pa.string_view() else array
    start = draw(st.integers(0, len(array) - 1))
    return array.slice(start) if draw(st.booleans()) else array


def leaves_of(value):
    return [leaf for item in value for leaf in leaves_of(item)] if isinstance(value, list) else [value]


def same(found, expected, datatype):
    """Whether an element is what pyarrow says it is, in the datatype."""
    if datatype == "BYTES":
        text = expected.encode() if isinstance(expected, str) else expected
        return found == (b"" if expected is None else text)
    if expected is None or (isinstance(expected, float | np.floating) and math.isnan(expected)):
        return found.dtype.kind in "fV" and found != found
    if datatype == "BF16" and isinstance(expected, bytes):
        return found.tobytes() == expected
    if found.dtype.kind in "iub":
        return int(found) == expected
    return found == np.float64(expected).astype(found.dtype)


def fits(value, datatype):
    """Whether a plain value can be the datatype, by the definition."""
    if datatype == "BYTES":
        return value is None or isinstance(value, str | bytes)
    if isinstance(value, str | bytes):
        return False
    dtype = numpy_dtype(datatype)
    missing = value is None or value != value
    if dtype.kind not in "iub":
        if missing or math.isinf(value):
            return True
        limit = float(ml_dtypes.finfo(dtype).max if datatype == "BF16" else np.finfo(dtype).max)
        return abs(value) <= limit
    low, high = (0, 1) if datatype == "BOOL" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return not missing and not math.isinf(value) and value == int(value) and low <= value <= high


@settings(max_examples=400, deadline=None)
@given(columns(), st.sampled_from(list(CODES)))
def test_a_column_of_any_type_is_equal_or_refused_by_name(column, datatype):
    expected = column.to_pylist()
    plain = [leaf for row in expected for leaf in leaves_of(row)]
    try:
        found = read_inputs(pa.table({"x": column}), {"x": Wanted(datatype, None)})["x"]
    except RowsError as error:
        said = str(error)
        assert "column 'x'" in said
        row = re.search(r"row (\d+): (.*)", said)
        assert row is None or int(row[1]) < len(column)
        if not any(isinstance(row, list) for row in expected) and datatype != "BF16":
            # Nothing but nulls may be of any type, of dates or structures too, which are refused.
            simple = all(value is None or isinstance(value, int | float | str | bytes) for value in plain)
            simple = simple and any(value is not None for value in plain)
            assert not simple or not all(fits(value, datatype) for value in plain), said
        return
    assert found.dtype == numpy_dtype(datatype)
    assert len(found) == len(column)
    assert len(found.reshape(-1)) == len(plain)
    assert all(same(one, other, datatype) for one, other in zip(found.reshape(-1), plain, strict=True))
    if column.null_count == 0 and isinstance(expected[0], list):
        assert found.shape[1] == len(expected[0])
