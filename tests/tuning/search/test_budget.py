import math

import pytest

from quorate.tuning.search.budget import Budget


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def rounds(budget, clock, members_s, rest_s):
    """When each round's members and rest ended, where a training takes ``members_s`` and stops when it is told to."""
    ended = []
    for _ in budget.rounds():
        clock.now += min(members_s, budget.members_s())
        with budget.rest():
            clock.now += rest_s
        ended.append(clock.now - 100.0)
    return ended


def test_without_a_limit_there_is_one_round():
    clock = Clock()
    budget = Budget(None, clock)
    assert rounds(budget, clock, 50.0, 5.0) == [55.0]
    assert budget.left_s() == math.inf
    assert budget.training_s(2) == math.inf


@pytest.mark.parametrize("rest_s", [1.0, 10.0, 40.0])
@pytest.mark.parametrize("members_s", [20.0, 1000.0])
def test_rounds_go_on_until_the_time_is_used_and_not_longer(members_s, rest_s):
    clock = Clock()
    ended = rounds(Budget(480.0, clock), clock, members_s, rest_s)
    assert len(ended) > 1
    assert ended[-1] <= 480.0
    least = 0.03 * 480.0  # what is left is no more than another round would need
    assert 480.0 - ended[-1] <= least + 1.25 * rest_s + 4.0 + 0.03 * 480.0


def test_a_first_round_that_takes_nearly_all_is_the_only_one():
    clock = Clock()
    assert rounds(Budget(100.0, clock), clock, 1000.0, 30.0) == [90.0]


def test_trainings_share_the_time_and_the_workers():
    assert Budget(480.0, Clock()).training_s(2) == pytest.approx(128.0)
