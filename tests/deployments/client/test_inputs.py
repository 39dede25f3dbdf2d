"""What users have for an input becomes the array that the model reads, or a sentence says why not."""

import numpy as np
import pandas as pd
import pytest
import torch

from quorate.deployments.client.inputs import as_input, by_name
from quorate.deployments.errors import RequestError


def described(datatype, *shape):
    return {"name": "x", "datatype": datatype, "shape": [-1, *shape]}


@pytest.mark.parametrize(
    ("given", "datatype", "shape", "expected"),
    [
        ([[1, 2], [3, 4]], "FP32", (2,), np.array([[1, 2], [3, 4]], np.float32)),
        ([1.5, 2.5], "FP32", (2,), np.array([[1.5, 2.5]], np.float32)),
        (3, "INT64", (), np.array([3])),
        ([3, 4], "UINT8", (), np.array([3, 4], np.uint8)),
        ([True, False], "BOOL", (), np.array([True, False])),
        (np.ones((2, 2)), "FP16", (2,), np.ones((2, 2), np.float16)),
        (pd.Series([1, 2]), "FP32", (), np.array([1, 2], np.float32)),
        (pd.Series([1, 2], dtype="Int64"), "INT32", (), np.array([1, 2], np.int32)),
        (pd.DataFrame({"a": [1.0], "b": [2.0]}), "FP32", (2,), np.array([[1, 2]], np.float32)),
        (torch.ones(2, 2, requires_grad=True), "FP32", (2,), np.ones((2, 2), np.float32)),
        (torch.ones(2, dtype=torch.bfloat16), "FP32", (), np.ones(2, np.float32)),
        ([2.0, 3.0], "INT64", (), np.array([2, 3])),
        ([1, None], "FP32", (), np.array([1, np.nan], np.float32)),
        (pd.Series([1, None], dtype="Int64"), "FP64", (), np.array([1, np.nan])),
        ([[1, None], [3, 4]], "FP32", (2,), np.array([[1, np.nan], [3, 4]], np.float32)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | tuple) else str(value),
)
def test_numbers_take_the_models_datatype_and_a_row_its_batch_dimension(given, datatype, shape, expected):
    found = as_input(given, described(datatype, *shape))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("given", ["hello", ["hello"], np.array(["hello"]), pd.Series(["hello"]), b"hello"])
def test_strings_become_bytes(given):
    found = as_input(given, described("BYTES"))
    assert found.dtype == object
    assert found.tolist() == [b"hello"]


@pytest.mark.parametrize("given", [["a", None], pd.Series(["a", None]), pd.Series(["a", pd.NA], dtype="string")])
def test_a_missing_string_is_empty(given):
    assert as_input(given, described("BYTES")).tolist() == [b"a", b""]


@pytest.mark.parametrize(
    ("given", "datatype", "sentence"),
    [
        ([1, 2], "BYTES", "input 'x': it holds int64, the model reads BYTES; write it as text"),
        ([1.5], "INT64", "input 'x': row 0: 1.5 is no INT64"),
        ([1, 300], "UINT8", "input 'x': row 1: 300 is beyond UINT8 (it goes from 0 to 255)"),
        ([1e300], "FP32", "input 'x': row 0: 1e+300 is beyond FP32"),
        ([1, None], "INT64", "input 'x': row 1: missing, and INT64 knows no missing values"),
        (["a"], "FP32", "input 'x': row 0: 'a', the model reads FP32"),
        ([[1, 2], [3]], "FP32", "a request has rows of one shape"),
    ],
)
def test_what_is_not_of_the_datatype_is_refused_with_a_sentence(given, datatype, sentence):
    with pytest.raises(RequestError) as error:
        as_input(given, described(datatype))
    assert sentence in str(error.value)


def test_a_data_frame_is_its_columns():
    assert list(by_name(pd.DataFrame({"a": [1], "b": [2]}))) == ["a", "b"]
    with pytest.raises(RequestError, match="inputs are a list; give a mapping"):
        by_name([1, 2])  # type: ignore[arg-type]
