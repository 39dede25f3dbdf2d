"""Weights go live when they are shown to be better, not by chance; and are taken back before much is lost."""

import numpy as np

from quorate.deployments.learning.online.history import LabelTimes, live_through
from quorate.deployments.learning.online.publishing import BUDGET, LATEST
from quorate.tuning.solvers.simplex import simplex_weights
from tests.deployments.support.label_streams import stream


def published(data, pinned):
    order, _ = data.in_order_of_labels()
    labels = LabelTimes(order, data.came[order])
    pinned = np.asarray(pinned) / np.sum(pinned)
    names = [str(member) for member in range(len(pinned))]
    return live_through("y", names, pinned, labels, data.cells[order], data.present[order], data.truth[order])


def test_permuted_labels_publish_nothing():
    wrong = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        data = stream(random, np.tile([3.0, 2.0, 1.0, 0.0], (300, 1)), classes=3, delay=20)
        data.truth = random.permutation(data.truth)
        found = published(data, [0.7, 0.1, 0.1, 0.1])
        wrong += bool(found.changes)
    assert wrong <= 5


def test_members_that_are_alike_give_no_reason_to_change():
    wrong = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        data = stream(random, np.full((300, 4), 2.0), classes=3)
        found = published(data, np.ones(4))
        wrong += bool(found.changes)
    assert wrong <= 2


def broken_in_between(delay):
    """What went live where a good member is broken for a while, and how much answers lost to the pinned weights."""
    random = np.random.default_rng(2)
    good, broken = [3.0, 1.0, 1.0], [-1.0, 1.0, 2.0]
    data = stream(random, np.repeat([good, broken, good], [500, 1500, 3000], axis=0), delay=delay)
    pinned = np.array([0.8, 0.1, 0.1])
    found = published(data, pinned)
    return found.changes, np.log((data.cells @ pinned) / (data.cells * found.live_at(np.arange(5000))).sum(axis=1))


def test_what_breaks_is_weighed_down_live_and_what_turns_worse_is_taken_back():
    changes, lost = broken_in_between(1)
    first = changes[0]
    assert not first.taken_back
    assert 500 < first.labels < 1000
    assert first.weights[0] < 0.3
    assert any(change.taken_back or change.weights[0] > 0.5 for change in changes if change.labels > 2000)
    sums = np.concatenate([[0.0], np.cumsum(lost)])
    assert max((sums[LATEST:] - sums[:-LATEST]).max(), sums.max()) <= BUDGET + np.abs(lost).max()


def test_where_labels_are_late_what_replaces_a_broken_member_may_lose_no_more_before_they_come():
    changes, lost = broken_in_between(50)
    assert 500 < changes[0].labels < 1000
    assert changes[0].weights[0] < 0.7 < 0.79 < changes[-1].weights[0]
    assert lost[1000:2000].mean() < -0.05
    sums = np.concatenate([[0.0], np.cumsum(lost)])
    assert (sums[LATEST:] - sums[:-LATEST]).max() <= 0.005 * LATEST


def test_what_late_labels_can_cost_is_bounded_where_the_world_changes_to_and_fro():
    went_live = 0
    for seed in range(3):
        random = np.random.default_rng(seed)
        good, other = random.uniform(0, 3, size=(2, 5))
        before = stream(random, np.tile(good, (3000, 1)))
        pinned = np.asarray(simplex_weights(before.probs.transpose(1, 0, 2), before.truth).values)
        data = stream(random, np.where(np.arange(5000)[:, None] // 800 % 2, other, good), delay=400)
        found = published(data, pinned)
        went_live += len(found.changes)
        lost = np.log((data.cells @ pinned) / (data.cells * found.live_at(np.arange(5000))).sum(axis=1))
        sums = np.concatenate([[0.0], np.cumsum(lost)])
        assert (sums[2000:] - sums[:-2000]).max() / 2000 < 0.005
    assert went_live
