"""What a member returns becomes what a fusion reads, over the ensemble's classes."""

import numpy as np
import pytest
from scipy.special import softmax

from quorate.deployments.members.output_alignment import Alignment, blank_nonfinite
from quorate.deployments.spec.schema import MemberSpec
from quorate.deployments.transport.row_state import RowState

CLASSES = ("red", "green", "blue")
RAW = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def alignment(output, classes=None, of=CLASSES):
    return Alignment(MemberSpec(model="a:b", inputs=("x",), output=output, classes=classes), of)


def status(rows=4):
    return np.zeros(rows, np.uint8)


def test_logits_become_probabilities():
    np.testing.assert_allclose(alignment("logits").fusable(RAW, status()), softmax(RAW, axis=1), atol=1e-6)


def test_large_logits_do_not_overflow():
    found = alignment("logits").fusable(np.array([[1e4, 0, -1e4]], np.float32), status(1))
    np.testing.assert_array_equal(found, [[1, 0, 0]])


def test_classes_are_put_where_the_ensemble_has_them():
    shares = np.array([[0.25, 0.75]], np.float32)
    aligned = alignment("probabilities", ("blue", "red"))
    assert aligned.num_outputs == 2
    np.testing.assert_array_equal(aligned.fusable(shares, status(1)), [[0.75, 0, 0.25]])


@pytest.mark.parametrize(("output", "shape"), [("values", (2, 3, 2)), ("features", (2, 6))])
def test_values_keep_their_shape_and_features_are_flat_rows(output, shape):
    found = alignment(output).fusable(np.arange(12.0).reshape(2, 3, 2), status(2))
    assert (found.dtype, found.shape) == (np.float32, shape)
    assert alignment(output).num_outputs is None


def test_one_number_a_row_is_a_row_of_one():
    assert alignment("values").fusable(np.arange(2.0), status(2)).shape == (2, 1)


def test_what_overflows_float32_is_not_finite():
    marks = status(2)
    found = alignment("values").fusable(np.array([[1e300], [1.0]]), marks)
    assert marks.tolist() == [RowState.NONFINITE, RowState.OK]
    assert found.tolist() == [[0.0], [1.0]]


def test_a_row_that_failed_before_keeps_its_reason():
    marks = np.array([RowState.ERROR, RowState.OK], np.uint8)
    blank_nonfinite(np.array([[np.nan], [np.inf]]), marks)
    assert marks.tolist() == [RowState.ERROR, RowState.NONFINITE]


def test_whole_numbers_are_always_finite():
    values = np.array([[1], [2]])
    assert blank_nonfinite(values, status(2)) is values
