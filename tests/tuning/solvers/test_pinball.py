"""Weights of least absolute error and of least pinball loss, against scikit-learn's losses and a search."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import mean_pinball_loss

from quorate.tuning.solvers.pinball import pinball_weights


def members(rows=200, seed=0):
    random = np.random.default_rng(seed)
    truth = random.normal(0, 2, rows)
    return truth + random.normal([[0.5], [-0.4], [0.0]], [[0.5], [1.0], [1.5]], (3, rows)), truth


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_no_weights_on_the_simplex_have_less_loss(level):
    values, truth = members()
    found = pinball_weights(values, truth, level)
    assert found.values.sum() == pytest.approx(1)
    assert (found.values >= 0).all()
    assert found.score == pytest.approx(mean_pinball_loss(truth, found.values @ values, alpha=level))
    assert found.gap == pytest.approx(0, abs=1e-9)

    def loss(free):
        weights = np.exp(free) / np.exp(free).sum()
        return mean_pinball_loss(truth, weights @ values, alpha=level)

    searched = min(minimize(loss, start, method="Nelder-Mead").fun for start in np.eye(3) * 3)
    assert found.score <= searched + 1e-9
    assert found.score == pytest.approx(searched, rel=1e-3)


def test_rows_count_as_copies_would():
    values, truth = members(60)
    counts = np.arange(60) % 3
    weighted = pinball_weights(values, truth, 0.3, counts.astype(float))
    repeated = pinball_weights(values.repeat(counts, axis=1), truth.repeat(counts), 0.3)
    np.testing.assert_allclose(weighted.values, repeated.values, atol=1e-9)
    assert weighted.score == pytest.approx(repeated.score)
