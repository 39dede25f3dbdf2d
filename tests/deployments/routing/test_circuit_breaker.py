"""Which replicas are left out, and for how long."""

import pytest

from quorate.deployments.routing.circuit_breaker import (
    FAILURES_TO_LEAVE_OUT,
    LEFT_OUT_MAX_S,
    LEFT_OUT_S,
    CircuitBreaker,
)
from tests.deployments.support.fake_replicas import FakeReplica
from tests.deployments.support.hand_clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(clock)


def fail(breaker, replica, times=FAILURES_TO_LEAVE_OUT, reason="error"):
    for _ in range(times):
        breaker.failed(replica, reason)


def test_a_replica_is_left_out_at_its_fifth_failure_in_a_row(breaker, clock):
    replica = FakeReplica()
    fail(breaker, replica, 4)
    assert not breaker.left_out
    breaker.failed(replica, "shape")
    assert breaker.left_out == {replica: clock.now + LEFT_OUT_S}
    assert breaker.reason == "shape"
    assert replica.failed_at == clock.now


def test_a_success_in_between_begins_the_count_anew(breaker):
    replica = FakeReplica()
    fail(breaker, replica, 4)
    breaker.succeeded(replica)
    fail(breaker, replica, 4)
    assert not breaker.left_out


def test_failures_of_one_replica_do_not_count_against_another(breaker):
    a, b = FakeReplica("a"), FakeReplica("b")
    fail(breaker, a, 4)
    fail(breaker, b)
    assert list(breaker.left_out) == [b]


def test_a_replica_that_is_left_out_is_due_after_its_pause_and_each_pause_is_twice_as_long(breaker, clock):
    replica = FakeReplica()
    fail(breaker, replica)
    pauses = []
    for _ in range(7):
        assert breaker.due() is None
        pauses.append(breaker.left_out[replica] - clock.now)
        clock.now = breaker.left_out[replica]
        assert breaker.due() is replica
    assert pauses == [min(LEFT_OUT_S * 2**number, LEFT_OUT_MAX_S) for number in range(7)]


def test_failures_while_it_is_left_out_do_not_prolong_the_pause(breaker):
    replica = FakeReplica()
    fail(breaker, replica)
    until = breaker.left_out[replica]
    fail(breaker, replica)
    assert breaker.left_out[replica] == until


def test_a_success_readmits_and_the_next_pause_is_a_short_one_again(breaker, clock):
    replica = FakeReplica()
    fail(breaker, replica)
    clock.now += LEFT_OUT_S
    assert breaker.due() is replica
    breaker.succeeded(replica)
    assert not breaker.left_out
    fail(breaker, replica)
    assert breaker.left_out == {replica: clock.now + LEFT_OUT_S}


def test_a_replica_that_is_gone_is_forgotten_and_not_left_out_again(breaker):
    replica = FakeReplica()
    fail(breaker, replica)
    breaker.forget(replica)
    assert not breaker.left_out
    replica.closed = True
    fail(breaker, replica)
    assert not breaker.left_out


def test_a_replica_that_leaves_is_not_due(breaker, clock):
    replica = FakeReplica()
    fail(breaker, replica)
    clock.now += LEFT_OUT_MAX_S
    replica.leaving = True
    assert breaker.due() is None
