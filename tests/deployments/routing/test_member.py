"""A member holds its replicas and policies together."""

import asyncio
import time

import pytest

from quorate.deployments.routing.circuit_breaker import FAILURES_TO_LEAVE_OUT
from quorate.deployments.routing.limits import DEFAULT_LIMITS, Limits
from quorate.deployments.routing.member import BACK_S, Member
from quorate.deployments.routing.replica import Address
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.terms import Terms
from quorate.deployments.transport.messages import Kind
from quorate.deployments.transport.row_state import RowState
from tests.deployments.support.fake_replicas import FakeReplica, payload


class Fleet:
    """A member whose replicas are connected the moment they are announced."""

    def __init__(self, *names, limits=DEFAULT_LIMITS):
        self.made = []
        self.member = Member("m", self._connect, limits)
        self.announce(*names)

    def _connect(self, address, on_lost):
        self.made.append(FakeReplica(address.replica_id, on_lost=on_lost))
        return self.made[-1]

    def announce(self, *names):
        self.member.set_replicas({name: Address(name, "node", "", "") for name in names})

    def ask(self, replies=None, rows=1, in_s=60.0):
        done = [].append if replies is None else replies.append
        return self.member.ask(Kind.CALL, payload(rows), Terms(time.monotonic() + in_s), done)


def in_loop(scenario):
    async def run():
        scenario()

    asyncio.run(run())


def test_calls_go_to_the_least_loaded_replica():
    fleet = Fleet("a", "b")
    for _ in range(4):
        fleet.ask()
    assert [len(replica.asked) for replica in fleet.made] == [2, 2]


def test_a_member_without_replicas_takes_no_call_and_says_why():
    fleet = Fleet()
    assert fleet.ask() is None
    assert fleet.member.reason == "dead"


@pytest.mark.parametrize("limits", [Limits(rows=2), Limits(nbytes=2 * 12)])
def test_a_member_whose_replicas_are_full_sheds(limits):
    fleet = Fleet("a", limits=limits)
    assert fleet.ask(rows=2) is not None
    assert fleet.ask() is None
    assert fleet.member.reason == "shed"


def test_a_lost_replica_is_connected_again():
    fleet = Fleet("a")
    fleet.made[0].close()
    assert fleet.member.ready() == 0
    fleet.member.reconcile()
    assert fleet.member.ready() == 1
    assert len(fleet.made) == 2


def test_a_replica_that_is_no_longer_announced_is_let_go_when_another_is_there_and_it_has_answered():
    fleet = Fleet("old")
    fleet.ask()
    old = fleet.made[0]
    fleet.announce("new")
    assert not old.closed
    old.answer()
    fleet.member.reconcile()
    assert old.closed
    assert list(fleet.member.replicas) == ["new"]


def test_the_last_replica_goes_on_though_it_is_no_longer_announced():
    fleet = Fleet("old")
    fleet.announce()
    assert fleet.member.ready() == 1


def test_a_replica_that_answers_in_the_wrong_shape_is_left_out_and_the_member_says_so():
    fleet = Fleet("a")
    for _ in range(FAILURES_TO_LEAVE_OUT):
        fleet.ask()
        fleet.made[0].answer(tensors=())
    assert fleet.member.left_out() == 1
    assert fleet.ask() is None
    assert fleet.member.reason == "shape"


def fail(fleet, times, answer):
    """Rows that fail, and after each what the replica answers to the good row."""
    for _ in range(times):
        fleet.ask()
        fleet.made[0].answer(RowState.ERROR)
        if fleet.made[0].waiting:
            fleet.made[0].answer(answer)


def test_rows_that_fail_count_against_nobody_while_the_good_row_is_answered():
    def scenario():
        fleet = Fleet("a")
        fail(fleet, 10, RowState.OK)  # before any row was answered nothing is known
        fleet.ask()
        fleet.made[0].answer()
        fail(fleet, 10, RowState.OK)
        assert fleet.member.left_out() == 0

    in_loop(scenario)


def test_a_replica_that_fails_on_the_good_row_too_is_left_out_and_a_success_readmits_it():
    def scenario():
        fleet = Fleet("a")
        fleet.ask()
        fleet.made[0].answer()
        fail(fleet, FAILURES_TO_LEAVE_OUT, RowState.ERROR)
        assert fleet.member.left_out() == 1
        assert fleet.ask() is None
        assert fleet.member.reason == "error"
        assert not fleet.made[0].waiting  # its pause is not over
        fleet.member.breaker.left_out[fleet.made[0]] = 0.0
        assert fleet.ask() is None  # but a trial goes out
        fleet.made[0].answer()
        assert fleet.member.left_out() == 0
        assert fleet.ask() is not None

    in_loop(scenario)


def test_what_was_known_of_a_lost_replica_goes_with_it():
    fleet = Fleet("a")
    for _ in range(FAILURES_TO_LEAVE_OUT):
        fleet.member.failed(fleet.made[0], "error")
    assert fleet.member.left_out() == 1
    fleet.made[0].close()
    assert fleet.member.left_out() == 0


def test_a_closed_member_ends_its_calls():
    fleet = Fleet("a")
    replies: list[MemberReply] = []
    fleet.ask(replies)
    fleet.member.close()
    assert [reply.reason for reply in replies] == ["dead"]
    assert fleet.made[0].closed


def test_a_member_says_when_it_may_take_calls_again():
    fleet = Fleet()
    assert fleet.member.back_s() == BACK_S  # nobody knows
    fleet.announce("a")
    assert fleet.member.back_s() == 0.0
    for _ in range(FAILURES_TO_LEAVE_OUT):
        fleet.ask()
        fleet.made[0].answer(tensors=())
    fleet.member.breaker.left_out[fleet.made[0]] = time.monotonic() + 500
    assert 400 < fleet.member.back_s() <= 500  # when the replica is tried again


def test_a_row_that_is_held_back_is_not_what_a_replica_is_tried_with():
    fleet = Fleet("a")
    for _ in range(FAILURES_TO_LEAVE_OUT):
        fleet.ask()
        fleet.made[0].answer(tensors=())
    asked = len(fleet.made[0].asked)
    fleet.member.breaker.left_out[fleet.made[0]] = 0.0
    for replica in ("x", "y"):
        fleet.member.quarantine.add(payload(1), replica)
    assert fleet.ask() is None
    assert fleet.member.reason == "quarantined"
    assert len(fleet.made[0].asked) == asked
