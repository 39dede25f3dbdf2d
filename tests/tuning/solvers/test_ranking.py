"""NDCG and weights for it, against scikit-learn's NDCG and a grid of all weights."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from quorate.tuning.solvers.ranking import ndcg_of_weights, ranking_weights


def lists(count=60, length=12, seed=0):
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(count, length))
    relevance = np.clip(np.floor(hidden + 1), 0, 3)
    points = hidden + random.normal(0, [[[0.7]], [[1.0]], [[3.0]]], (3, count, length))
    return points, relevance


@pytest.mark.parametrize("top", [None, 3])
def test_no_weights_of_a_fine_grid_rank_much_better(top):
    points, relevance = lists()
    found = ranking_weights(points, relevance, top)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()

    def score(weights):
        return ndcg_score(relevance, np.tensordot(weights, points, axes=1), k=top)

    steps = np.linspace(0, 1, 21)
    grid = [score(np.array([a, b, 1 - a - b])) for a in steps for b in steps if a + b <= 1 + 1e-9]
    assert score(found) == pytest.approx(float(ndcg_of_weights(found[None], points, relevance, top)[0]))
    assert score(found) >= max(grid) - 2e-3
    assert score(found) > max(score(one) for one in np.eye(3))


def test_a_list_that_counts_twice_is_there_twice():
    points, relevance = lists(20)
    counts = np.arange(20) % 3
    tried = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    np.testing.assert_allclose(
        ndcg_of_weights(tried, points, relevance, 5, counts.astype(float)),
        ndcg_of_weights(tried, points.repeat(counts, axis=1), relevance.repeat(counts, axis=0), 5),
    )
