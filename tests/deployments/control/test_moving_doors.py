"""Which nodes have joined and which have left, by what one process sees of them."""

import pytest

from quorate.deployments.control.serve.moving_doors import NodeWatch
from tests.deployments.support.hand_clock import Clock

LOOK_S = 5.0
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
NAMES = {"a": A, "b": B, "c": C}


class Seen:
    """A watch whose clock is moved."""

    def __init__(self, gone_s):
        self.clock = Clock()
        self.watch = NodeWatch(gone_s, self.clock)

    def after(self, passed_s, recorded, there, **failures):
        self.clock.now += passed_s
        counts = {NAMES[name]: count for name, count in failures.items()}
        return self.watch.look(set(recorded), set(there), counts, LOOK_S)


@pytest.fixture
def seen():
    return Seen(gone_s=20.0)


def test_a_node_has_joined_when_it_is_seen_twice(seen):
    assert [seen.after(5, [A], [A, B]) for _ in range(2)] == [(set(), set()), ({B}, set())]


def test_a_node_that_comes_and_goes_has_not_joined(seen):
    assert {frozenset(seen.after(5, [A], there)[0]) for there in ([A, B], [A], [A, B], [A])} == {frozenset()}


def test_a_node_has_left_when_it_was_away_for_long(seen):
    assert [seen.after(5, [A, B], [A])[1] for _ in range(5)] == [set(), set(), set(), set(), {B}]


def test_a_node_that_was_back_meanwhile_has_not_left(seen):
    looks = [[A]] * 4 + [[A, B]] + [[A]] * 4
    assert {frozenset(seen.after(5, [A, B], there)[1]) for there in looks} == {frozenset()}


def test_time_in_which_nobody_looked_counts_as_one_look(seen):
    assert [seen.after(3600, [A, B], [A])[1] for _ in range(4)] == [set()] * 4


def test_a_node_whose_door_did_not_start_is_left_out_for_longer_each_time(seen):
    """Whoever has tried it."""
    seen.after(5, [A], [A, B])
    waits = []
    for failures in (1, 2, 3, 20):
        joined, waited = seen.after(5, [A], [A, B], b=failures)[0], 0
        while not joined:
            joined, waited = seen.after(5, [A], [A, B], b=failures)[0], waited + 5
        waits.append(waited)
    assert waits == [60, 120, 240, 3600]


def test_other_nodes_join_meanwhile(seen):
    assert [seen.after(5, [A], [A, B, C], b=1)[0] for _ in range(2)] == [set(), {C}]


def test_a_node_that_was_away_is_tried_again_at_once(seen):
    for there, failures in (([A, B], {"b": 1}), ([A], {})):
        seen.after(5, [A], there, **failures)
    assert [seen.after(5, [A], [A, B])[0] for _ in range(2)] == [set(), {B}]
