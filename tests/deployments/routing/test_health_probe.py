"""A row that was answered before tells a broken replica from bad rows."""

import asyncio
import time

import pytest

from quorate.deployments.routing.health_probe import HealthProbe
from quorate.deployments.transport.messages import Kind
from quorate.deployments.transport.row_state import RowState
from tests.deployments.support.fake_replicas import FakeReplica, payload


class Probe(HealthProbe):
    """Keeps what it finds."""

    def __init__(self):
        self.verdicts: list[tuple] = []
        self.answers: list[tuple] = []
        super().__init__(
            lambda replica, reason: self.verdicts.append((replica, reason)),
            lambda replica, message, kind, payload, latency_s: self.answers.append((replica, payload.rows)),
        )


def in_loop(scenario):
    async def run():
        scenario(Probe(), FakeReplica())

    asyncio.run(run())


def test_nobody_is_checked_before_any_row_was_answered():
    def scenario(probe, replica):
        probe.check(replica, "error")
        assert not replica.asked

    in_loop(scenario)


@pytest.mark.parametrize(("state", "reason"), [(RowState.OK, None), (RowState.ERROR, "nonfinite")])
def test_a_replica_that_fails_on_the_good_row_too_is_blamed_for_what_led_to_the_check(state, reason):
    def scenario(probe, replica):
        probe.remember(Kind.CALL_PROBABILITIES, payload(rows=5))
        probe.check(replica, "nonfinite")
        [(kind, question, _)] = replica.asked.values()
        assert (kind, question.rows) == (Kind.CALL_PROBABILITIES, 1)
        replica.answer(state)
        assert probe.verdicts == [(replica, reason)]
        assert not probe.checks

    in_loop(scenario)


def test_the_first_good_row_is_kept():
    def scenario(probe, replica):
        probe.remember(Kind.CALL, payload(rows=1))
        probe.remember(Kind.CALL_PROBABILITIES, payload(rows=2))
        probe.check(replica, "error")
        [(kind, _, _)] = replica.asked.values()
        assert kind == Kind.CALL

    in_loop(scenario)


def test_a_replica_is_checked_once_at_a_time_and_not_when_it_is_gone_or_leaves():
    def scenario(probe, replica):
        probe.remember(Kind.CALL, payload())
        gone, leaving = FakeReplica("gone"), FakeReplica("leaving")
        gone.closed = leaving.leaving = True
        for each in (replica, replica, gone, leaving):
            probe.check(each, "error")
        assert [len(each.asked) for each in (replica, gone, leaving)] == [1, 0, 0]

    in_loop(scenario)


def test_a_check_of_a_replica_that_is_lost_says_nothing():
    def scenario(probe, replica):
        probe.remember(Kind.CALL, payload())
        probe.check(replica, "error")
        replica.close()
        assert probe.verdicts == []
        assert not probe.checks

    in_loop(scenario)


def test_a_forgotten_check_is_dropped():
    def scenario(probe, replica):
        probe.remember(Kind.CALL, payload())
        probe.check(replica, "error")
        probe.forget(replica)
        assert replica.dropped
        assert not probe.checks

    in_loop(scenario)


def test_a_replica_is_tried_again_with_the_good_row_or_with_the_rows_at_hand():
    def scenario(probe, replica):
        later = time.monotonic() + 60
        probe.try_again(replica, Kind.CALL, payload(rows=4), later)
        probe.remember(Kind.CALL, payload())
        probe.try_again(replica, Kind.CALL, payload(rows=4), later)
        assert [question.rows for _, question, _ in replica.asked.values()] == [4, 1]
        assert len(replica.dropped) == 1  # the trial before
        replica.answer()
        assert probe.answers == [(replica, 1)]

    in_loop(scenario)


@pytest.mark.parametrize("answer", [{"kind": Kind.FAILURE}, None])
def test_a_trial_that_fails_or_is_lost_tells_nothing_good(answer):
    def scenario(probe, replica):
        probe.try_again(replica, Kind.CALL, payload(), time.monotonic() + 60)
        if answer is None:
            replica.close()
        else:
            replica.answer(**answer)
        assert probe.answers == []

    in_loop(scenario)


def test_a_trial_that_is_answered_too_late_tells_nothing_good():
    def scenario(probe, replica):
        probe.try_again(replica, Kind.CALL, payload(), time.monotonic() - 1)
        replica.answer()
        assert probe.answers == []

    in_loop(scenario)
