"""Weights through time: bounded, at equal distances, and the newest always."""

import numpy as np
import pytest

from quorate.deployments.learning.online.weights_through_time import POINTS, WeightsThroughTime


def points_of(total, piece):
    """Of labels that come one each second, the first weight being how many have come so far."""
    found = WeightsThroughTime(np.zeros(1))
    for start in range(0, total, piece):
        labels = np.arange(start, min(start + piece, total)) + 1
        found.add(labels * 1_000_000, labels[:, None].astype(float))
    return found.points()


@pytest.mark.parametrize("total", [1, 199, 200, 201, 1000, 12_345])
def test_points_are_few_equally_far_apart_and_end_with_the_newest(total):
    points = points_of(total, 7)
    labels = [one["labels"] for one in points]
    assert len(points) <= POINTS + 1
    assert (labels[0], labels[-1]) == (0, total)
    assert len(set(np.diff(labels[:-1]).tolist())) <= 1
    assert len(points) > min(total, POINTS // 2)
    assert all(one["weights"] == [one["labels"]] for one in points)
    assert all(one["time_us"] == one["labels"] * 1_000_000 for one in points[1:])


def test_points_are_the_same_however_labels_come():
    assert points_of(5000, 1) == points_of(5000, 999) == points_of(5000, 5000)


def test_before_any_label_there_is_none():
    assert WeightsThroughTime(np.ones(2)).points() == []
