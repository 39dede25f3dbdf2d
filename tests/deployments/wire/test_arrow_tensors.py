"""Arrow columns and tensors, in both directions."""

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.arrow_tensors import check_type, read_column, write_column
from quorate.deployments.wire.datatypes import CODES, bytes_array, datatype_of, numpy_dtype


def example(datatype, shape):
    count = int(np.prod(shape))
    if datatype == "BYTES":
        return bytes_array([bytes([at]) for at in range(count)]).reshape(shape)
    return (np.arange(count) % 2).astype(numpy_dtype(datatype)).reshape(shape)


@pytest.mark.parametrize("datatype", CODES)
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2)])
def test_what_is_written_is_read_back(datatype, shape):
    array = example(datatype, shape)
    column = write_column(array)
    check_type("x", column.type, datatype)
    for rows in (slice(None), slice(1, 3)):  # a slice of a column shares its buffers
        found = read_column("x", column[rows], datatype, shape[1:])
        assert datatype_of(found) == datatype
        np.testing.assert_array_equal(found, array[rows])


def test_a_flat_list_is_given_the_shape_that_the_model_reads():
    column = pa.array([[1.0, 2, 3, 4]], pa.list_(pa.float32(), 4))
    assert read_column("x", column, "FP32", (2, 2)).shape == (1, 2, 2)
    assert read_column("x", column, "FP32", (-1, 2)).shape == (1, 4)


def test_lists_of_one_length_and_strings_are_read():
    assert read_column("x", pa.array([[1, 2], [3, 4]], pa.list_(pa.int32())), "INT32", (2,)).tolist() == [
        [1, 2],
        [3, 4],
    ]
    assert read_column("x", pa.array(["é"]), "BYTES", ()).tolist() == ["é".encode()]
    assert read_column("x", pa.array([], pa.list_(pa.int32())), "INT32", (2,)).shape == (0, 0)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1, None], pa.int32()), "null in row 1"),
        (pa.array([[1, 2], [3, None]], pa.list_(pa.int32())), "null in row 1"),
        (pa.array([[1], [2, 3]], pa.list_(pa.int32())), "2 elements in row 1 and 1 before"),
    ],
)
def test_a_row_that_is_missing_or_of_another_length_is_named(column, message):
    with pytest.raises(RequestError, match=message):
        read_column("x", column, "INT32", (2,))


def test_no_column_is_cast():
    with pytest.raises(RequestError, match="column 'x' holds double; the model reads FP32: cast it to float"):
        check_type("x", pa.list_(pa.float64()), "FP32")
    permuted = pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[1, 0])
    with pytest.raises(RequestError, match="permuted tensors"):
        check_type("x", permuted, "FP32")


def test_bfloat16_travels_as_two_bytes():
    column = write_column(np.array([1, 2], ml_dtypes.bfloat16))
    assert column.type == pa.binary(2)
