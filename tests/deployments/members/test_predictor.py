"""One member's forward pass: a row that fails costs only itself."""

import re

import numpy as np
import pytest
import torch

from quorate.deployments import parse_spec
from quorate.deployments.errors import MemberLoadError
from quorate.deployments.members.predictor import SPARE_PASSES, Predictor, join
from quorate.deployments.sources.model import Model
from quorate.deployments.transport.row_state import RowState


def predictor(function, output="probabilities", classes=("red", "green"), shape=(2,)):
    """Around any function on arrays."""
    spec = parse_spec(
        {
            "name": "one",
            "inputs": {"x": {"datatype": "FP32", "shape": list(shape)}},
            "classes": list(classes) if classes else None,
            "members": {"m": {"model": "torch.nn:Identity", "inputs": ["x"], "output": output}},
            "fusion": {"rule": "mean"},
        }
    )
    job = spec.job("m")
    return Predictor(Model("m", job.member, function, torch.device("cpu"), tensors=False), job)


def rows(count):
    return {"x": np.arange(2 * count, dtype=np.float32).reshape(count, 2)}


@pytest.mark.parametrize("poison", [{0}, {6}, {1, 2}, {0, 3, 6}, set(range(7))])
def test_a_row_that_the_model_cannot_take_costs_only_itself(poison):
    calls = []

    def picky(x):
        calls.append(len(x))
        if poison & {int(row[0]) // 2 for row in x}:
            raise ValueError("no such row")
        return x / x.sum(axis=1, keepdims=True)

    found = predictor(picky)
    values, status = found.run(rows(7), probabilities=True)
    assert {at for at, state in enumerate(status) if state == RowState.ERROR} == poison
    x = rows(7)["x"]
    for at in set(range(7)) - poison:
        np.testing.assert_allclose(values[at], x[at] / x[at].sum(), rtol=1e-6)
    assert not values[sorted(poison)].any()
    assert found.last_error == "ValueError: no such row"


def test_one_bad_row_of_many_is_found_in_a_few_calls():
    calls = []

    def picky(x):
        calls.append(len(x))
        if (x[:, 0] == 0).any():
            raise ValueError
        return x

    predictor(picky, output="values", classes=None).run(rows(64), probabilities=False)
    assert len(calls) <= 2 * 6 + 1


@pytest.mark.parametrize("size", [1, 2, 3, 64, 1000])
def test_a_batch_of_nothing_but_bad_rows_costs_a_few_calls_and_all_of_them_fail(size):
    calls = []

    def picky(x):
        calls.append(len(x))
        raise ValueError

    _, status = predictor(picky).run(rows(size), probabilities=True)
    assert status.tolist() == [RowState.ERROR] * size
    assert len(calls) <= 1 + 2 * (size - 1).bit_length() + SPARE_PASSES


def test_most_good_rows_are_answered_beside_many_bad_ones():
    def picky(x):
        if (x[:, 0] == 0).any():
            raise ValueError
        return x

    x = rows(64)
    x["x"][[3, 40, 41]] = 0
    _, status = predictor(picky, output="values", classes=None).run(x, probabilities=False)
    assert set(status[[3, 40, 41]]) == {RowState.ERROR}
    assert (status == RowState.OK).sum() >= 48


class AcceleratorError(RuntimeError):
    """torch 2.8's, by its name."""


@pytest.mark.parametrize(
    "error", [AcceleratorError("CUDA error"), RuntimeError("CUDA error: an illegal memory access")]
)
def test_a_lost_device_is_not_asked_again(error):
    calls = []

    def lost(x):
        calls.append(len(x))
        raise error

    found = predictor(lost)
    _, status = found.run(rows(8), probabilities=True)
    assert found.device_lost
    assert calls == [8]
    assert set(status) == {RowState.ERROR}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: x[:1], r"returned shape \[1, 2\] for 3 rows"),
        (lambda x: x.sum(), r"returned shape \[\] for 3 rows"),
        (lambda x: x[:, :1], r"returned \[1\] values a row but has 2 classes"),
        (lambda x: x.astype(str), "returned dtype <U"),
        (lambda x: x.astype(complex), "returned dtype complex128, which is no number"),
    ],
)
def test_what_is_not_one_row_of_numbers_per_row_cannot_be_used(output, message):
    found = predictor(output)
    _, status = found.run(rows(3), probabilities=True)
    assert set(status) == {RowState.SHAPE}
    assert re.search(message, found.last_error)
    with pytest.raises(MemberLoadError, match=r"members\.m: the model returned"):
        predictor(output).warm_up()


def test_a_row_that_is_not_finite_is_zeroed_and_named():
    def bad(x):
        x = x.copy()
        x[1, 0] = np.nan
        return x

    values, status = predictor(bad).run(rows(3), probabilities=True)
    assert status.tolist() == [RowState.OK, RowState.NONFINITE, RowState.OK]
    assert not values[1].any()


def test_a_model_that_fails_on_an_example_is_refused_before_it_serves():
    def broken(x):
        raise KeyError("weights")

    with pytest.raises(MemberLoadError, match="fails on an example input with KeyError: 'weights'; check inputs"):
        predictor(broken).warm_up()


def test_the_example_tells_what_a_row_of_the_output_is():
    found = predictor(lambda x: x.astype(np.float64)[:, :1], output="values", classes=None)
    found.warm_up()
    assert (found.datatype, found.dims) == ("FP64", (1,))
    free = predictor(lambda x: x, output="values", classes=None, shape=(-1,))
    free.warm_up()
    assert free.dims == (-1,)


def part(values, *status):
    return np.array(values, np.float32), np.array(status, np.uint8)


def test_parts_of_one_shape_are_put_together_and_another_shape_is_left_out():
    ok, shape = RowState.OK, RowState.SHAPE
    values, status = join([part([[1, 2], [3, 4]], ok, ok), part([[5]], ok), part([[6, 7]], ok)])
    assert values.tolist() == [[1, 2], [3, 4], [0, 0], [6, 7]]
    assert status.tolist() == [ok, ok, shape, ok]
