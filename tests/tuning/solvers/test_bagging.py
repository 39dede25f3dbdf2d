import numpy as np
import pytest
import sklearn.metrics

from quorate.tuning import bagged_weights, greedy_weights, simplex_weights
from quorate.tuning.errors import TuningError


def many_weak(members, rows, seed, skill):
    """Many members of the same small skill: whom selection picks is chance."""
    random = np.random.default_rng(0)
    skills = skill * random.uniform(0.5, 1.5, members)
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows)
    logits = 2.0 * random.normal(size=(members, rows)) + skills[:, None] * np.where(labels == 1, 1.0, -1.0)
    p = 1 / (1 + np.exp(-logits))
    return np.stack([1 - p, p], axis=-1), labels


@pytest.mark.long
def test_bags_overfit_less_than_one_selection():
    alone: list[tuple[float, float]] = []
    bagged: list[tuple[float, float]] = []
    for seed in range(6):
        probs, labels = many_weak(40, 60, seed, 1.0)
        others, truth = many_weak(40, 4000, 100 + seed, 1.0)
        for solve, losses in ((greedy_weights, alone), (lambda p, y: bagged_weights(p, y).weights, bagged)):
            weights = solve(probs, labels)
            fused = np.tensordot(weights.values, probs, axes=1)
            assert weights.score == pytest.approx(sklearn.metrics.log_loss(labels, fused))
            unseen = sklearn.metrics.log_loss(truth, np.tensordot(weights.values, others, axes=1))
            losses.append((weights.score, unseen))
    (seen_alone, unseen_alone), (seen_bagged, unseen_bagged) = np.mean(alone, axis=0), np.mean(bagged, axis=0)
    assert seen_alone < seen_bagged  # on the rows both were made from
    assert unseen_bagged < unseen_alone


def test_each_bag_holds_its_share_of_the_members():
    probs, labels = many_weak(10, 200, 3, 0.5)
    bagged = bagged_weights(probs, labels, solve=simplex_weights, bags=12, member_share=0.3)
    assert bagged.each.shape == (12, 10)
    assert ((bagged.each > 0).sum(axis=1) <= 3).all()
    np.testing.assert_allclose(bagged.each.sum(axis=1), 1)
    np.testing.assert_allclose(bagged.weights.values, bagged.each.mean(axis=0))


def test_the_bootstraps_spread_is_the_spread_of_new_samples():
    probs, labels = many_weak(3, 400, 4, 1.0)
    spread = bagged_weights(probs, labels, solve=simplex_weights, bags=60, member_share=1.0).each.std(axis=0)
    fresh = [simplex_weights(*many_weak(3, 400, seed, 1.0)).values for seed in range(10, 70)]
    np.testing.assert_allclose(spread, np.std(fresh, axis=0), rtol=0.4)
    low, high = bagged_weights(probs, labels, solve=simplex_weights, member_share=1.0).interval()
    assert (low < high).all()


def test_the_same_seed_draws_the_same_bags():
    probs, labels = many_weak(6, 100, 5, 0.5)
    first, second, third = (bagged_weights(probs, labels, bags=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.each, second.each)
    assert (first.each != third.each).any()
    values = bagged_weights(probs[:, :, 1], (labels == 1).astype(float), metric="rmse", bags=2)
    assert values.weights.values.sum() == pytest.approx(1)


@pytest.mark.parametrize("wrong", [{"bags": 0}, {"member_share": 0.0}, {"member_share": 1.5}])
def test_no_bag_and_no_share_are_refused(wrong):
    probs, labels = many_weak(3, 20, 0, 0.5)
    with pytest.raises(TuningError, match="at least 1"):
        bagged_weights(probs, labels, **wrong)
