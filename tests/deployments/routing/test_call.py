"""One call: sent, hedged, retried, given up."""

import asyncio
import time

import pytest

from quorate.deployments.routing.call import Call
from quorate.deployments.routing.hedge import Hedge
from quorate.deployments.routing.reply import read_reply
from quorate.deployments.transport.messages import Kind
from tests.deployments.support.fake_replicas import FakeReplica, payload


class FakeRoutes:
    """A member with these replicas, asked in their order."""

    def __init__(self, *replicas, patience_s=0.0):
        self.replicas, self.patience_s = replicas, patience_s
        self.hedge = Hedge()
        self.failures = []

    def choose(self, tried=()):
        return next((replica for replica in self.replicas if replica not in tried), None)

    def read(self, peer, message, kind, payload, latency_s):
        return read_reply(message, payload.rows, latency_s)

    def failed(self, peer, reason):
        self.failures.append((peer, reason))


@pytest.fixture
def replies():
    return []


def start(routes, replies, *, in_s=60.0, rows=1):
    call = Call(routes, Kind.CALL, payload(rows), time.monotonic() + in_s, replies.append)
    call.start(routes.replicas[0])
    return call


def test_an_answer_ends_the_call(replies):
    replica = FakeReplica()
    call = start(FakeRoutes(replica), replies, rows=2)
    assert not call.finished
    replica.answer()
    assert call.finished
    [reply] = replies
    assert reply.values.shape == (2, 2)
    assert reply.reason == ""


def test_a_call_whose_replica_is_lost_goes_to_another(replies):
    lost, other = FakeReplica("lost"), FakeReplica("other")
    start(FakeRoutes(lost, other), replies)
    lost.close()
    assert replies == []
    other.answer()
    assert [reply.reason for reply in replies] == [""]


def test_a_call_is_retried_once_and_not_twice(replies):
    replicas = [FakeReplica(name) for name in "abc"]
    start(FakeRoutes(*replicas), replies)
    for replica in replicas[:2]:
        replica.close()
    assert [reply.reason for reply in replies] == ["dead"]
    assert not replicas[2].asked


def test_a_call_that_has_expired_is_not_retried(replies):
    lost, other = FakeReplica("lost"), FakeReplica("other")
    start(FakeRoutes(lost, other), replies, in_s=0.0)
    lost.close()
    assert [reply.reason for reply in replies] == ["dead"]
    assert not other.asked


def test_a_call_given_up_is_dropped_and_counts_against_the_replica_that_owed_an_answer(replies):
    replica = FakeReplica()
    routes = FakeRoutes(replica)
    call = start(routes, replies)
    call.give_up()
    assert call.finished
    assert replica.dropped
    assert routes.failures == [(replica, "deadline")]
    assert replies == []


@pytest.mark.parametrize(("patience_s", "reason"), [(60.0, "deadline"), (0.0, "gone")])
def test_a_call_given_up_too_early_or_for_another_reason_counts_against_nobody(replies, patience_s, reason):
    replica = FakeReplica()
    routes = FakeRoutes(replica, patience_s=patience_s)
    start(routes, replies).give_up(reason)
    assert replica.dropped
    assert routes.failures == []


def hedging(replies, *replicas, calls=1000):
    """A call that is late at once; for use on an event loop."""
    routes = FakeRoutes(*replicas)
    routes.hedge.percentile, routes.hedge.calls = 95, calls
    for _ in range(100):
        routes.hedge.answered(0.0)
    return start(routes, replies)


async def until_asked(replica):
    while not replica.asked:  # noqa: ASYNC110 (the event loop's timer is what is waited for)
        await asyncio.sleep(0)


def test_a_late_call_goes_to_a_second_replica_and_the_first_answer_counts(replies):
    async def scenario():
        slow, other = FakeReplica("slow"), FakeReplica("other")
        hedging(replies, slow, other)
        await until_asked(other)
        other.answer()
        assert len(replies) == 1
        assert slow.dropped

    asyncio.run(scenario())


def test_a_hedged_call_outlives_the_loss_of_one_replica(replies):
    async def scenario():
        lost, other = FakeReplica("lost"), FakeReplica("other")
        hedging(replies, lost, other)
        await until_asked(other)
        lost.close()
        assert replies == []
        other.answer()
        assert [reply.reason for reply in replies] == [""]

    asyncio.run(scenario())


def test_a_late_call_beyond_the_budget_waits_for_its_replica(replies):
    async def scenario():
        slow, other = FakeReplica("slow"), FakeReplica("other")
        call = hedging(replies, slow, other, calls=1)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not other.asked
        slow.answer()
        assert call.finished

    asyncio.run(scenario())
