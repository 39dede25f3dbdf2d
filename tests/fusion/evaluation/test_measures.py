"""Measures against scikit-learn, and the two that it does not have."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from quorate.fusion.evaluation.measures import MEASURES, expected_calibration_error

RANDOM = np.random.default_rng(0)
LABELS = np.concatenate([np.arange(4), RANDOM.integers(0, 4, 196)])
PROBABILITIES = RANDOM.dirichlet(np.ones(4), 200).astype(np.float32)
WIDE = PROBABILITIES.astype(np.float64) / PROBABILITIES.astype(np.float64).sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("accuracy", metrics.accuracy_score(LABELS, PROBABILITIES.argmax(-1))),
        ("log_loss", metrics.log_loss(LABELS, WIDE)),
        ("roc_auc", metrics.roc_auc_score(LABELS, WIDE, multi_class="ovr")),
        ("f1_macro", metrics.f1_score(LABELS, PROBABILITIES.argmax(-1), average="macro")),
        ("precision_weighted", metrics.precision_score(LABELS, PROBABILITIES.argmax(-1), average="weighted")),
        ("recall_micro", metrics.recall_score(LABELS, PROBABILITIES.argmax(-1), average="micro")),
    ],
)
def test_measure_is_scikit_learns(name: str, theirs: float) -> None:
    assert MEASURES[name].compute(LABELS, PROBABILITIES) == pytest.approx(theirs, rel=1e-6)


def test_brier_score_of_two_classes_is_twice_scikit_learns() -> None:
    labels = RANDOM.integers(0, 2, 50)
    probabilities = RANDOM.dirichlet(np.ones(2), 50)
    theirs = metrics.brier_score_loss(labels, probabilities[:, 1])
    assert MEASURES["brier"].compute(labels, probabilities) == pytest.approx(2 * theirs)


def test_regression_errors_are_scikit_learns() -> None:
    targets, predictions = RANDOM.normal(size=(30, 2)), RANDOM.normal(size=(30, 2))
    assert MEASURES["rmse"].compute(targets, predictions) ** 2 == pytest.approx(
        metrics.mean_squared_error(targets, predictions)
    )
    assert MEASURES["mae"].compute(targets, predictions) == pytest.approx(
        metrics.mean_absolute_error(targets, predictions)
    )


def test_certain_and_half_right_is_half_off() -> None:
    probabilities = np.array([[1.0, 0.0]] * 4)
    assert expected_calibration_error(np.array([0, 0, 1, 1]), probabilities) == pytest.approx(0.5)
    sure = np.array([[0.75, 0.25]] * 4)
    assert expected_calibration_error(np.array([0, 0, 0, 1]), sure) == pytest.approx(0.0)


def test_two_errors_in_different_bins_do_not_cancel() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4]])
    assert expected_calibration_error(np.array([1, 0]), probabilities) == pytest.approx((0.9 + 0.4) / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probability_of_zero_costs_what_scikit_learn_charges(dtype: type[np.floating]) -> None:
    sure = np.array([[1.0, 0.0], [0.25, 0.75]], dtype=dtype)
    theirs = metrics.log_loss([1, 1], sure.astype(np.float64), labels=[0, 1])
    assert MEASURES["log_loss"].compute(np.array([1, 1]), sure) == pytest.approx(theirs, rel=1e-9)
