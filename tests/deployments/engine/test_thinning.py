"""Who is left out under too much load, when, and when they come back. Members share one machine; time is made up."""

import pytest

from quorate.deployments.engine.thinning import Thinning, worth_order
from tests.deployments.support.hand_clock import Clock

COSTS_S = {"boost": 0.001, "cnn": 0.003, "transformer": 0.006}  # a request is answered in 10 ms: 100 a second
WEIGHTS = {"boost": 0.3, "cnn": 0.3, "transformer": 0.4}
DEADLINE_S = 0.2


class Machine:
    """Answers requests one by one with the members that are asked.

    Attributes:
        late: shares of requests that were answered too late, one for each call of ``load``.
        changes: how often another set was asked.
    """

    def __init__(self, keep=1, required=()):
        self.clock = Clock()
        order = worth_order([], WEIGHTS, COSTS_S.__getitem__)
        self.thinning = Thinning(COSTS_S, keep, required, order, self.clock)
        self.late, self.changes, self._free_at = [], 0, 0.0

    def load(self, rate, seconds):
        """So many requests a second for a while."""
        late, count = 0, round(rate * seconds)
        for _ in range(count):
            self.clock.now += 1 / rate
            before = self.thinning.left_out
            begins = max(self._free_at, self.clock.now)
            if begins > self.clock.now + DEADLINE_S:
                self.thinning.ended({}, late=True)
                late += 1
            else:
                asked = [name for name in COSTS_S if name not in before]
                self._free_at = begins + sum(COSTS_S[name] for name in asked)
                self.thinning.ended(dict.fromkeys(before, "shed"), late=begins > self.clock.now + DEADLINE_S / 2)
            self.changes += self.thinning.left_out != before
        self.late.append(late / count)

    @property
    def left_out(self):
        return self.thinning.left_out


def test_at_twice_the_load_as_many_are_left_out_as_it_takes_the_least_worth_for_their_time_first():
    machine = Machine()
    machine.load(90, 60)
    assert (machine.left_out, machine.late) == ((), [0.0])
    machine.load(200, 60)
    assert machine.left_out == ("transformer",)
    machine.load(200, 60)
    assert machine.late[-1] < 0.02
    machine.load(700, 60)
    assert machine.left_out == ("transformer", "cnn")
    assert machine.late[-1] < 0.05


def test_all_are_asked_again_soon_after_the_load_is_gone():
    machine = Machine()
    machine.load(700, 20)
    assert len(machine.left_out) == 2
    machine.load(50, 6)
    assert machine.left_out == ()
    assert machine.late[-1] == 0.0


def test_nobody_comes_and_goes_while_the_load_stays():
    machine = Machine()
    machine.load(200, 1200)
    assert machine.changes <= 5 * 6  # of two, each time that one is tried again: after 30, 60, 120, ... s
    assert machine.late[-1] < 0.005


def test_a_rate_that_all_can_take_is_found_although_it_was_too_much_once():
    machine = Machine()
    machine.load(105, 60)
    assert machine.left_out == ("transformer",)
    machine.load(95, 600)
    assert machine.left_out == ()
    assert machine.late[-1] < 0.01


def test_requests_that_had_gathered_and_end_together_are_not_taken_for_a_rate():
    clock = Clock()
    thinning = Thinning(COSTS_S, 1, (), worth_order([], WEIGHTS, COSTS_S.__getitem__), clock)

    def ended(count, late, seconds):
        for _ in range(count):
            clock.now += seconds / count
            thinning.ended(dict.fromkeys(thinning.left_out, "shed"), late=late)

    ended(1000, late=False, seconds=10)
    ended(76, late=True, seconds=0.3)  # of three quarters of a second
    assert len(thinning.left_out) == 1
    ended(1000, late=False, seconds=10)  # and not a third of what was too many
    assert len(thinning.left_out) == 1


@pytest.mark.parametrize(("keep", "required", "left_out"), [
    (3, (), ()), (2, (), ("transformer",)), (1, ("transformer",), ("cnn", "boost")),
    (1, ("transformer", "cnn"), ("boost",)),
])  # fmt: skip
def test_the_quorum_and_who_is_required_are_always_asked(keep, required, left_out):
    machine = Machine(keep, required)
    machine.load(5000, 30)
    assert machine.left_out == left_out


def test_a_member_that_alone_is_late_is_left_out_and_nobody_else():
    clock = Clock()
    order = worth_order([], WEIGHTS, COSTS_S.__getitem__)
    thinning = Thinning(COSTS_S, 1, (), order, clock)
    for _ in range(2000):
        clock.now += 0.01
        missing = dict.fromkeys(thinning.left_out, "shed") or {"boost": "deadline"}
        thinning.ended(missing, late=False)
        assert set(thinning.left_out) <= {"boost"}
    assert thinning.left_out == ("boost",)


def test_members_that_are_dead_or_fail_are_no_sign_of_load():
    clock = Clock()
    thinning = Thinning(COSTS_S, 1, (), worth_order([], WEIGHTS, COSTS_S.__getitem__), clock)
    for reason in ("dead", "error", "nonfinite", "quarantined"):
        for _ in range(500):
            clock.now += 0.01
            thinning.ended({"boost": reason}, late=False)
    assert thinning.left_out == ()


def test_the_order_that_was_tuned_comes_before_the_one_by_weights():
    order = worth_order(["boost", "transformer"], WEIGHTS, COSTS_S.__getitem__)
    assert order(["cnn", "transformer", "boost"]) == ["boost", "transformer", "cnn"]
    assert worth_order([], WEIGHTS, lambda name: 0.0)(["cnn", "boost"]) == ["boost", "cnn"]  # nothing measured yet
