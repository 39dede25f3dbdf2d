"""Which trial runs next, without Ray: what a worker would report is said here."""

import pytest

from quorate.tuning.errors import SweepError
from quorate.tuning.search.generations import Task
from quorate.tuning.search.workers.trial_queue import MOST_DEATHS, TrialQueue


class Plan:
    """Generations of two tasks; the third is proposed when the first has ended."""

    def __init__(self, tasks=6):
        self.outcomes, self.tasks, self.proposed = {}, tasks, 0

    def next(self):
        if self.proposed >= self.tasks:
            return []
        if any(number not in self.outcomes for number in range(self.proposed - 2)):
            return None
        numbers = range(self.proposed, min(self.proposed + 2, self.tasks))
        self.proposed += 2
        return [Task(number, {"number": number}) for number in numbers]

    def done(self, number, outcome):
        self.outcomes[number] = outcome


def test_a_generation_starts_while_the_one_before_it_runs_and_no_earlier():
    queue = TrialQueue(Plan())
    started = []
    while queue.waiting():
        started.append(queue.start().number)
    assert started == [0, 1, 2, 3]
    queue.finish(0, {})
    assert queue.waiting() == 0
    queue.finish(1, {})
    assert queue.waiting() == 2


def test_it_ends_when_every_outcome_is_known_and_not_before():
    plan = Plan(2)
    queue = TrialQueue(plan)
    assert (queue.waiting(), queue.start().number, queue.start().number, queue.waiting()) == (2, 0, 1, 0)
    ended = [queue.ended]
    for number in (1, 0):
        queue.finish(number, {"values": number})
        ended.append(queue.ended)
    assert ended == [False, False, True]
    assert plan.outcomes == {1: {"values": 1}, 0: {"values": 0}}


def test_a_trial_whose_worker_died_runs_next_and_is_given_up_after_three_deaths():
    plan = Plan(2)
    queue = TrialQueue(plan)
    assert queue.waiting() == 2
    assert queue.start().number == 0
    for _ in range(MOST_DEATHS - 1):
        assert queue.lose(0)
        assert queue.start().number == 0
    assert not queue.lose(0)
    assert plan.outcomes == {0: None}
    assert queue.start().number == 1


def test_what_the_generations_refuse_reaches_the_caller():
    class Full(Plan):
        def done(self, number, outcome):
            raise SweepError("run", "cannot be written", "make room")

    queue = TrialQueue(Full())
    assert queue.waiting()
    queue.start()
    with pytest.raises(SweepError, match="make room"):
        queue.finish(0, {})
