"""How many replicas a member gets, from how busy those it has are."""

import pytest

from quorate.deployments.control.serve.autoscaling import desired_replicas


@pytest.mark.parametrize(
    ("busy_shares", "expected"),
    [([0.0], 1), ([0.69], 1), ([0.71], 2), ([1.0, 1.0], 3), ([0.1, 0.1, 0.1], 1), ([1.0] * 8, 4), ([], 1)],
)
def test_replicas_follow_the_work_within_their_bounds(busy_shares, expected):
    assert desired_replicas(busy_shares, [0.0] * len(busy_shares), low=1, high=4) == expected


def test_work_that_waits_counts_beyond_what_a_full_replica_can_show():
    assert desired_replicas([1.0], [0.0], low=1, high=9) == 2
    assert desired_replicas([1.0], [0.5], low=1, high=9) == 3
    assert desired_replicas([1.0], [50.0], low=1, high=9) == 3
