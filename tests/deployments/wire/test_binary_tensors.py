"""Tensors as raw bytes and back."""

import numpy as np
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.binary_tensors import COPIED_BYTES, decode, encode, parse_raw
from quorate.deployments.wire.datatypes import CODES, bytes_array, numpy_dtype


def example(datatype, shape):
    count = int(np.prod(shape))
    if datatype == "BYTES":
        return bytes_array([bytes(at % 3) for at in range(count)]).reshape(shape)
    return (np.arange(count) % 2).astype(numpy_dtype(datatype)).reshape(shape)


@pytest.mark.parametrize("datatype", CODES)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (5,), (COPIED_BYTES, 2)])
def test_bytes_and_back_is_the_same_tensor(datatype, shape):
    array = example(datatype, shape)
    found = decode(bytes(encode(array)), datatype, shape)
    assert (found.dtype, found.shape) == (array.dtype, shape)
    np.testing.assert_array_equal(found, array)


def test_a_tensor_that_is_not_row_major_is_written_so():
    for rows in (2, COPIED_BYTES):
        array = np.arange(2 * rows, dtype=np.int16).reshape(2, rows).T
        np.testing.assert_array_equal(decode(encode(array), "INT16", array.shape), array)


def test_any_byte_but_zero_is_true():
    assert decode(b"\0\1\2\xff", "BOOL", (4,)).view(np.uint8).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("datatype", "data", "message"),
    [
        ("FP32", bytes(7), r"FP32 of shape \[1, 2\] needs 8 bytes but has 7"),
        ("BYTES", b"\1\0\0\0a", r"BYTES of shape \[1, 2\] needs 2 elements but has 1"),
        ("BYTES", b"\5\0\0\0a", "element 0 points past the end"),
        ("BYTES", b"\0\0", "element 0 points past the end"),
    ],
)
def test_more_or_fewer_bytes_than_the_shape_needs_are_refused(datatype, data, message):
    with pytest.raises(RequestError, match=f"input 'x': .*{message}"):
        parse_raw("x", datatype, (1, 2), data)
