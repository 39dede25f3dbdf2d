"""What another policy would have earned: without bias, and above its bound as often as stated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quorate.fusion.evaluation.off_policy import doubly_robust, inverse_propensity, lower_mean


def logged(rows: int, seed: int) -> Any:
    """Rows of two kinds and three nested arms; pulled at random, with chances that depend on the kind."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 2, rows)
    skill = np.array([[0.4, 0.7, 0.9], [0.9, 0.9, 0.95]])[kind]
    rewards = (random.random((rows, 3)) < skill).astype(float)
    chances = np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]])[kind]
    pulled = (random.random(rows)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    known = np.arange(3) <= pulled[:, None]  # who asks many knows what fewer would have said
    seen = chances[:, ::-1].cumsum(axis=1)[:, ::-1]
    target = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])[kind]
    return target, seen, known, rewards, skill


def test_estimates_are_the_true_value_on_average_and_a_good_model_spreads_them_less() -> None:
    draws = [logged(500, seed) for seed in range(200)]
    plain = np.array([inverse_propensity(*draw[:4]).mean() for draw in draws])
    robust = np.array([doubly_robust(t, s, k, r, p).mean() for t, s, k, r, p in draws])
    wrong = np.array([doubly_robust(t, s, k, r, np.full_like(p, 0.2)).mean() for t, s, k, r, p in draws])
    for found in (plain, robust, wrong):
        assert found.mean() == pytest.approx(0.8, abs=4 * found.std() / np.sqrt(len(found)))
    assert robust.std() < plain.std()


def test_rows_of_which_everything_is_known_are_judged_exactly() -> None:
    target, _, _, rewards, skill = logged(200, 0)
    ones = np.ones_like(rewards)
    exact = (target * rewards).sum(axis=1)
    np.testing.assert_allclose(inverse_propensity(target, ones, ones > 0, rewards), exact)
    np.testing.assert_allclose(doubly_robust(target, ones, ones > 0, rewards, skill), exact)


def test_the_bound_is_below_the_mean_as_often_as_stated_and_not_far_below() -> None:
    bounds = np.array([lower_mean(inverse_propensity(*logged(2000, seed)[:4]), 0.1) for seed in range(80)])
    assert (bounds > 0.8).mean() <= 0.1
    assert bounds.mean() > 0.75


def test_a_large_value_that_is_rare_does_not_break_the_bound() -> None:
    random = np.random.default_rng(0)
    bounds = [lower_mean(200.0 * (random.random(1000) < 0.004), 0.1) for _ in range(80)]
    assert np.mean(np.array(bounds) > 0.8) <= 0.1
