import numpy as np
import pytest
import scipy.optimize
from scipy.special import log_softmax

from quorate.tuning import simplex_weights
from quorate.tuning.scoring import true_class
from quorate.tuning.solvers.columns import Columns
from quorate.tuning.solvers.log_pool import MOST, log_pool_weights
from quorate.tuning.solvers.simplex import solve_rows


def members(rows, seed=0, count=4, classes=5):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    logits = random.normal(size=(count, rows, classes))
    logits[:, np.arange(rows), labels] += np.linspace(0.2, 1.5, count)[:, None]
    return np.exp(log_softmax(logits, axis=2)), labels


def test_weights_are_scipys_optimum_and_the_gap_says_so():
    probs, labels = members(600)

    def loss(weights):
        logs = log_softmax(np.tensordot(weights, np.log(probs), axes=1), axis=1)
        return -logs[np.arange(600), labels].mean()

    theirs = scipy.optimize.minimize(
        loss, np.full(4, 0.25), method="SLSQP", bounds=[(0, MOST)] * 4,
        constraints={"type": "ineq", "fun": lambda w: MOST - w.sum()}, options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    ours = log_pool_weights(probs, labels)
    assert ours.score == pytest.approx(theirs.fun, abs=1e-8)
    assert ours.gap is not None
    assert ours.gap < 1e-4
    np.testing.assert_allclose(ours.values, theirs.x, atol=2e-3)


def test_the_gap_bounds_how_far_other_weights_are_from_the_best():
    probs, labels = members(300, 1)
    best = log_pool_weights(probs, labels).score
    few = log_pool_weights(probs[:2], labels)
    assert few.score >= best - 1e-9  # what two members can do all four can


def test_a_row_that_counts_twice_is_the_row_given_twice():
    probs, labels = members(200, 2)
    counts = np.random.default_rng(0).integers(1, 4, 200).astype(float)
    again = np.repeat(np.arange(200), counts.astype(int))
    weighted, repeated = counts / counts.mean(), (probs[:, again], labels[again])
    np.testing.assert_allclose(
        log_pool_weights(probs, labels, counts=weighted).values, log_pool_weights(*repeated).values, atol=1e-4
    )
    solved = solve_rows(Columns(true_class(probs, labels), counts=weighted))
    np.testing.assert_allclose(solved, simplex_weights(*repeated).values, atol=1e-6)
