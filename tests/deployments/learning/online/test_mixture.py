"""Weights that learn from late labels lose no more than is said, and find the best mixture again when it changes."""

import numpy as np
import pytest

from quorate.deployments.learning.online.adahedge import AdaHedge
from quorate.deployments.learning.online.mixture import OnlineMixture, pooled
from quorate.tuning.solvers.simplex import simplex_weights
from tests.deployments.support.label_streams import skills, stream


def learned(data, prior=None):
    """A learner that took all labels; the loss of the weights that were known to each answer, and those of arrival."""
    order, known = data.in_order_of_labels()
    learner = OnlineMixture(np.ones(data.cells.shape[1]) if prior is None else prior)
    found = learner.learn(data.cells[order], data.present[order])
    weights = np.concatenate([found.weights, learner.weights[None]])
    losses = -np.log(pooled(weights[known], data.cells[order], data.present[order]))
    return learner, found, losses


@pytest.mark.parametrize("delay", [1, 10, 100, 1000])
@pytest.mark.parametrize("drift", ["none", "abrupt", "slow", "missing", "late prior"])
def test_regret_is_within_its_bound(drift, delay):
    random = np.random.default_rng(delay)
    shape = drift if drift in ("none", "abrupt", "slow") else "abrupt"
    data = stream(random, skills(random, 1500, drift=shape), delay=delay, missing=0.1 * (drift == "missing"))
    learner, found, losses = learned(data, random.uniform(size=10) if drift == "late prior" else None)
    regret = learner.regret()
    stale = losses.sum() - found.losses.sum()
    assert regret.loss == pytest.approx(found.losses.sum())
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    for loss, bound in (
        (regret.member_loss, regret.member_bound),
        (regret.mixture_loss, regret.mixture_bound),
        (regret.prior_loss, regret.prior_bound),
    ):
        assert losses.sum() - loss <= bound + stale
    order, _ = data.in_order_of_labels()
    cells, there = data.cells[order], data.present[order]
    for member in range(10):  # of its own rows, by the rows themselves
        awake = there[:, member]
        behind = found.losses[awake] + np.log(cells[awake, member])
        assert behind.sum() <= regret.member_bound + np.log(learner.prior[regret.member] / learner.prior[member])
    if drift != "missing":
        best = simplex_weights(data.probs.transpose(1, 0, 2), data.truth)
        assert regret.mixture_loss == pytest.approx(1500 * best.score, abs=0.05)


def test_500_labels_after_a_change_weights_are_as_good_as_the_new_best_mixture():
    for seed in range(4):
        random = np.random.default_rng(seed)
        count = 2 * int(random.integers(1000, 1400))
        skill = skills(random, count, drift="abrupt")
        data = stream(random, skill)
        large = stream(random, np.tile(skill[-1], (10_000, 1)))
        best = simplex_weights(large.probs.transpose(1, 0, 2), large.truth).score
        learner = OnlineMixture(np.ones(10))
        learner.learn(data.cells[: count // 2])
        before = -np.log(large.cells @ learner.weights).mean() - best
        learner.learn(data.cells[count // 2 : count // 2 + 500])
        after = -np.log(large.cells @ learner.weights).mean() - best
        assert after < 0.01 < before


def test_late_labels_tell_of_what_was_when_their_rows_were_answered():
    for seed in range(3):
        random = np.random.default_rng(seed)
        skill = skills(random, 4000, drift="abrupt")
        data = stream(random, skill, delay=1000)
        large = stream(random, np.tile(skill[-1], (10_000, 1)))
        best = simplex_weights(large.probs.transpose(1, 0, 2), large.truth).score
        order, _ = data.in_order_of_labels()
        changed = int(np.flatnonzero(np.cumsum(order >= 2000) == 500)[0]) + 1  # labels of rows after the change
        assert (order[:changed] < 2000).sum() > 1900
        learner = OnlineMixture(np.ones(10))
        learner.learn(data.cells[order[:changed]], answered=order[:changed])
        assert -np.log(large.cells @ learner.weights).mean() - best < 0.01


def test_who_has_done_well_for_long_leaves_room_for_those_that_begin_anew():
    random = np.random.default_rng(10)
    data = stream(random, skills(random, 20_000, drift="abrupt"), delay=10)
    later = data.cells[11_000:]
    learner = OnlineMixture(np.ones(10))
    order = data.in_order_of_labels()[0][:10_500]
    learner.learn(data.cells[order], answered=order)
    best = simplex_weights(data.probs[11_000:].transpose(1, 0, 2), data.truth[11_000:]).score
    assert -np.log(later @ learner.weights).mean() - best < 0.01


def test_a_clock_that_is_wrong_now_and_then_keeps_no_way_from_beginning_anew():
    random = np.random.default_rng(0)
    skill = skills(random, 4000, drift="abrupt")
    data = stream(random, skill)
    large = stream(random, np.tile(skill[-1], (10_000, 1)))
    best = simplex_weights(large.probs.transpose(1, 0, 2), large.truth).score
    times = np.arange(2500)
    times[::100] = 10**15
    learner = OnlineMixture(np.ones(10))
    learner.learn(data.cells[:2500], answered=times)
    assert -np.log(large.cells @ learner.weights).mean() - best < 0.01


def test_weights_do_not_depend_on_how_many_labels_come_at_once_and_on_who_asks_for_the_regret():
    random = np.random.default_rng(0)
    data = stream(random, skills(random, 200), missing=0.1)
    one, other = OnlineMixture(np.ones(10)), OnlineMixture(np.ones(10))
    times = np.arange(200) - random.integers(0, 50, 200)
    one.learn(data.cells, data.present, times)
    for at in range(0, 200, 7):
        other.learn(data.cells[at : at + 7], data.present[at : at + 7], times[at : at + 7])
        assert other.regret().labels == min(at + 7, 200)
    assert (one.weights == other.weights).all()


def test_a_member_that_is_always_sure_and_wrong_does_not_take_the_others_with_it():
    probs = np.tile([0.0, 0.6, 0.7], (400, 1))
    learner = OnlineMixture([0.98, 0.01, 0.01])
    learner.learn(probs)
    assert learner.weights[0] < 0.02
    assert learner.regret().loss - 400 * -np.log(0.7) <= learner.regret().member_bound


def hedged(losses, present=None):
    learner = AdaHedge(np.ones(losses.shape[1]))
    return learner, learner.learn(losses, present)


def test_adahedge_loses_no_more_than_is_said_and_than_its_paper_says():
    random = np.random.default_rng(0)
    losses = random.random((2000, 8)) * np.linspace(0.8, 1, 8)
    learner, held = hedged(losses)
    regret = (held * losses).sum() - losses.sum(axis=0)
    assert learner.loss == pytest.approx((held * losses).sum())
    assert (regret <= learner.regret_bounds()).all()
    # De Rooij et al. 2014, corollary 9, with losses between 0 and 1.
    best = losses.sum(axis=0).min()
    log = np.log(8)
    assert regret.max() <= 2 * np.sqrt(best * (2000 - best) / 2000 * log) + 16 / 3 * log + 2


def test_adahedge_is_the_same_in_any_unit_and_waits_for_those_that_are_missing():
    random = np.random.default_rng(1)
    losses = random.random((300, 5))
    assert hedged(1000 * losses)[1] == pytest.approx(hedged(losses)[1])
    present = random.random((300, 5)) > 0.2
    present[:, 0] = True
    learner, held = hedged(losses, present)
    lost = pooled(np.maximum(held, 1e-300), losses, present)
    for member in range(5):
        awake = present[:, member]
        assert (lost - losses[:, member])[awake].sum() <= learner.regret_bounds()[member]
