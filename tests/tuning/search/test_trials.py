"""Which trials are handed out, without Ray: what Tune would say is said here."""

import json

import pytest

from quorate.tuning.search import trials
from quorate.tuning.search.trials import Task


class Plan:
    """Three tasks in one generation."""

    def __init__(self):
        self.outcomes, self.asked = {}, 0

    def next(self):
        self.asked += 1
        return [Task(n, {"number": n}) for n in range(3)] if self.asked == 1 else []

    def done(self, number, outcome):
        self.outcomes[number] = outcome


@pytest.fixture
def now(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(trials.time, "monotonic", lambda: clock[0])
    return clock


def test_a_trial_whose_workers_died_is_tried_again_after_a_pause_and_then_given_up(now):
    plan = Plan()
    phase = trials._Phase(plan, None, None)
    feed = trials._Feed(phase)
    try:
        assert [feed.suggest(name)["number"] for name in "abc"] == [0, 1, 2]
        feed.on_trial_complete("a", {"outcome": json.dumps({"values": {}})})
        assert feed.suggest("d") is None  # not the end: what runs may have to run again
        feed.on_trial_complete("b", error=True)
        feed.on_trial_complete("c", {"outcome": json.dumps({"values": {}})})
        assert feed.suggest("d") is None  # Ray may not know yet that a node is gone
        assert sorted(plan.outcomes) == [0, 2]
        now[0] = trials._PAUSE_S
        assert feed.suggest("d") == {"number": 1}
        feed.on_trial_complete("d", error=True)
        assert plan.outcomes[1] is None
        assert feed.suggest("e") == feed.FINISHED
    finally:
        phase.close()
