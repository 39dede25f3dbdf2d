"""The optimum of multinomial logistic regression, whatever the features' scale."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from quorate.fusion.learned.logistic_regression import fit_logistic_regression


def collinear(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(300, 9) logits of two members that say nearly the same, on scales a thousand apart, a column of 0 and a bias."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 300)
    first = np.eye(4)[labels] + random.normal(size=(300, 4))
    second = 1000 * (first + 1e-3 * random.normal(size=(300, 4)))
    return np.concatenate([10 * first, second[:, :3], np.zeros((300, 1)), np.ones((300, 1))], axis=1), labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("l2", [1e-2, 1e-5])
def test_the_gradient_is_zero_where_the_solver_ends(seed: int, l2: float) -> None:
    features, labels = collinear(seed)
    penalised = np.arange(9) < 8
    found = fit_logistic_regression(features, labels, 4, l2, penalised)
    slope = features.T @ (softmax(features @ found, axis=1) - np.eye(4)[labels]) / 300 + l2 * penalised[:, None] * found
    assert np.abs(slope / np.sqrt((features**2).mean(axis=0) + 1e-9)[:, None]).max() < 1e-7
    theirs = LogisticRegression(C=1 / (300 * l2), solver="newton-cholesky", tol=1e-10).fit(features[:, :8], labels)
    np.testing.assert_allclose(softmax(features @ found, axis=1), theirs.predict_proba(features[:, :8]), atol=1e-5)


def test_classes_that_can_be_told_apart_without_a_penalty_are() -> None:
    features = np.array([[-1.0, 1.0], [-2.0, 1.0], [1.0, 1.0], [3.0, 1.0]])
    found = fit_logistic_regression(features, np.array([0, 0, 1, 1]), 2, 0.0, np.array([True, False]))
    assert softmax(features @ found, axis=1)[[0, 1, 2, 3], [0, 0, 1, 1]].min() > 1 - 1e-6
