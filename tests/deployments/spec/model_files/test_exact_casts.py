"""A datatype holds another where NumPy finds every extreme of that again."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from quorate.deployments.spec.model_files.exact_casts import is_exact
from quorate.deployments.wire.datatypes import numpy_dtype

NUMBERS = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64",
]  # fmt: skip


def hard_values(datatype):
    """Numbers that only types as wide as this one hold: its largest and smallest, and its neighbour of 1."""
    dtype = numpy_dtype(datatype)
    if datatype == "BOOL":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([info.min, info.max, info.max - 1], dtype)
    limits = ml_dtypes.finfo(dtype)
    return np.array([limits.max, limits.min, limits.tiny, 1 + limits.eps], dtype)


@pytest.mark.parametrize(("given", "wanted"), list(itertools.product(NUMBERS, NUMBERS)))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_exact_comes_back_as_it_was(given, wanted):
    values = hard_values(given)
    back = [int(v) if np.dtype(v.dtype).kind in "biu" else float(v) for v in values.astype(numpy_dtype(wanted))]
    there = [int(v) if np.dtype(v.dtype).kind in "biu" else float(v) for v in values]
    assert is_exact(given, wanted) == (back == there and not (wanted == "BOOL" and given != "BOOL"))


def test_texts_are_no_numbers():
    assert is_exact("BYTES", "BYTES")
    assert not any(is_exact("BYTES", one) or is_exact(one, "BYTES") for one in NUMBERS)
