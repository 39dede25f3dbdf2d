"""Which replica is asked."""

from quorate.deployments.routing.balancing import (
    DEAD,
    FAILURE_COUNTS_S,
    FAILURE_LOAD_ROWS,
    LEFT_OUT,
    SHED,
    choose,
)
from quorate.deployments.routing.limits import Limits
from tests.deployments.support.fake_replicas import FakeReplica

NOW = 1000.0


def chosen(*replicas, left_out=(), tried=(), limit=4096, now=NOW):
    return choose(replicas, left_out, tried, Limits(limit, 1000), now)


def test_the_replica_with_the_fewest_rows_under_way_is_asked():
    few, many = FakeReplica("few", outstanding_rows=3), FakeReplica("many", outstanding_rows=4)
    assert chosen(many, few) == (few, "")


def test_of_equally_loaded_replicas_the_first_is_asked():
    first, second = FakeReplica("first"), FakeReplica("second")
    assert chosen(first, second) == (first, "")


def test_a_replica_that_failed_a_moment_ago_counts_as_loaded_but_not_for_ever():
    failed, loaded = FakeReplica("failed"), FakeReplica("loaded", outstanding_rows=FAILURE_LOAD_ROWS - 1)
    failed.failures, failed.failed_at = 1, NOW
    assert chosen(failed, loaded) == (loaded, "")
    assert chosen(failed, loaded, now=NOW + FAILURE_COUNTS_S) == (failed, "")
    assert chosen(failed) == (failed, "")


def test_replicas_that_are_not_ready_or_leave_are_not_asked():
    new, leaving = FakeReplica("new", ready=False), FakeReplica("leaving")
    leaving.leaving = True
    assert chosen(new, leaving) == (None, DEAD)
    assert chosen() == (None, DEAD)


def test_replicas_that_are_left_out_or_were_tried_are_not_asked():
    a, b, c = (FakeReplica(name) for name in "abc")
    assert chosen(a, b, c, left_out={a: NOW}, tried=[b]) == (c, "")
    assert chosen(a, b, left_out={a: NOW}, tried=[b]) == (None, LEFT_OUT)


def test_a_member_whose_least_loaded_replica_is_full_sheds():
    assert chosen(FakeReplica(outstanding_rows=10), limit=10) == (None, SHED)
    assert chosen(FakeReplica(outstanding_rows=9), limit=10)[1] == ""


def test_a_replica_with_too_many_bytes_to_answer_is_passed_over_for_one_with_more_rows():
    few, many = FakeReplica("few", outstanding_rows=1), FakeReplica("many", outstanding_rows=100)
    few.outstanding_bytes = 1000
    assert chosen(few, many) == (many, "")
    many.outstanding_bytes = 1001
    assert chosen(few, many) == (None, SHED)
