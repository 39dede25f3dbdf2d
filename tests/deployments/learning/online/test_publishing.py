"""Weights go live when they are shown to be better, not by chance; and are taken back before much is lost."""

import numpy as np

from quorate.deployments.learning.online.history import LabelTimes, live_through
from quorate.deployments.learning.online.mixture import pooled
from quorate.deployments.learning.online.publishing import BUDGET, LATEST
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


def test_what_breaks_is_weighed_down_live_and_what_turns_worse_is_taken_back():
    random = np.random.default_rng(2)
    good, broken = [3.0, 1.0, 1.0], [-1.0, 1.0, 2.0]
    data = stream(random, np.repeat([good, broken, good], [500, 1500, 3000], axis=0), delay=50)
    pinned = np.array([0.8, 0.1, 0.1])
    found = published(data, pinned)
    first = found.changes[0]
    assert not first.taken_back
    assert 500 < first.labels < 1000
    assert first.weights[0] < 0.3
    assert any(change.taken_back or change.weights[0] > 0.5 for change in found.changes if change.labels > 2000)
    order, _ = data.in_order_of_labels()
    probs, present = data.cells[order], data.present[order]
    lost = np.log(pooled(pinned / pinned.sum(), probs, present) / pooled(found.live_at(order), probs, present))
    sums = np.concatenate([[0.0], np.cumsum(lost)])
    worst = max((sums[LATEST:] - sums[:-LATEST]).max(), sums.max())
    late = 50 * np.abs(lost).max()  # rows that were answered before their labels could say so
    assert worst <= BUDGET + late
