"""Weights of least absolute error and of least pinball loss, against scikit-learn's losses and a search."""

import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from sklearn.metrics import mean_pinball_loss

from quorate.tuning.solvers.pinball import pinball_gap, pinball_weights


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


def test_quantiles_of_several_levels_share_their_weights():
    values, truth = members(60)
    levels = np.array([0.1, 0.5, 0.9])
    quantiles = values[:, :, None] + [[[-1.0, 0.0, 1.0]], [[-2.0, 0.0, 2.0]], [[-0.5, 0.0, 0.5]]]
    found = pinball_weights(quantiles.reshape(3, -1), truth.repeat(3), np.tile(levels, 60))
    assert found.gap == pytest.approx(0, abs=1e-9)

    def loss(weights):
        fused = np.tensordot(weights, quantiles, axes=1)
        return np.mean([mean_pinball_loss(truth, fused[:, k], alpha=level) for k, level in enumerate(levels)])

    # The same as a program of inequalities: a row's loss is above both of its slopes.
    sides, rates = quantiles.reshape(3, -1).T, np.tile(levels, 60)[:, None]
    slopes = [np.hstack([-rate * sides, -np.eye(180)]) for rate in (rates, rates - 1)]
    limits = [-(rate[:, 0] * truth.repeat(3)) for rate in (rates, rates - 1)]
    cost = np.append(np.zeros(3), np.full(180, 1 / 180))
    one = np.append(np.ones(3), np.zeros(180))[None]
    theirs = linprog(cost, np.vstack(slopes), np.concatenate(limits), one, [1.0]).fun
    assert found.score == pytest.approx(theirs, rel=1e-6)
    assert loss(found.values) == pytest.approx(theirs, rel=1e-6)
    assert pinball_gap(
        quantiles.reshape(3, -1), truth.repeat(3), np.full(3, 1 / 3), np.tile(levels, 60)
    ) == pytest.approx(loss(np.full(3, 1 / 3)) - theirs, abs=1e-8)
