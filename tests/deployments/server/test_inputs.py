"""Tensors of a request against what the model reads."""

import numpy as np
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.server.inputs import check_inputs, from_bytes
from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.inference import InferRequest
from quorate.deployments.wire.limits import MAX_ROWS

SPECS = {"x": TensorSpec(datatype="FP32", shape=(2,)), "n": TensorSpec(datatype="INT64", shape=(-1,))}
X, N = np.zeros((3, 2), np.float32), np.zeros((3, 7), np.int64)


def check(**inputs):
    return check_inputs(InferRequest("m", inputs), tuple(SPECS), SPECS)


def test_tensors_that_fit_pass():
    assert check(x=X, n=N) is None


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"x": X}, "expected 2 inputs but 'n' is missing"),
        ({"x": X, "n": N, "y": X}, "unexpected inference input 'y' for model 'm'; it reads x, n"),
        ({"x": X.astype(np.float64), "n": N}, "'x' has datatype FP64; the model reads FP32"),
        ({"x": X[:, :1], "n": N}, "'x' has shape [3, 1]; the model reads [-1, 2], rows first"),
        ({"x": X[0], "n": N}, "'x' has shape [2]"),
        ({"x": X, "n": N[:2]}, "'n' has 2 rows but others have 3"),
        ({"x": X[:0], "n": N[:0]}, "the batch has 0 rows"),
        ({"x": np.zeros((MAX_ROWS + 1, 2), np.float32), "n": np.zeros((MAX_ROWS + 1, 0), np.int64)}, "give 1 to"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_with_what_was_found_and_expected(inputs, sentence):
    with pytest.raises(RequestError) as found:
        check(**inputs)
    assert sentence in str(found.value)


def tensor(datatype, *shape):
    return TensorSpec(datatype=datatype, shape=shape)


def test_bytes_are_as_many_rows_as_they_make():
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(from_bytes("m", memoryview(rows.tobytes()), SPECS["x"]), rows)


def test_bytes_are_one_row_where_a_size_is_free():
    row = np.arange(5)
    np.testing.assert_array_equal(from_bytes("m", memoryview(row.tobytes()), SPECS["n"]), row[None])


def test_bytes_for_one_string_are_that_string():
    assert from_bytes("m", memoryview(b"any\0thing"), tensor("BYTES", 1)).tolist() == [[b"any\0thing"]]


@pytest.mark.parametrize(
    ("size", "spec"),
    [(7, SPECS["x"]), (0, SPECS["x"]), (7, SPECS["n"]), (8, tensor("FP32", -1, -1)), (8, tensor("BYTES", 2))],
)
def test_bytes_that_make_no_whole_number_of_rows_are_refused(size, spec):
    with pytest.raises(RequestError, match="send"):
        from_bytes("m", memoryview(bytes(size)), spec)
