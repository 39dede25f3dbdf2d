"""One call: sent, hedged, retried, given up."""

import asyncio
import time

import pytest

from quorate.deployments.routing.call import Call
from quorate.deployments.routing.hedge import Hedge
from quorate.deployments.routing.reply import read_reply
from quorate.deployments.routing.terms import Terms
from quorate.deployments.transport.messages import Kind
from tests.deployments.support.fake_replicas import FakeReplica, payload


class FakeRoutes:
    """A member with these replicas, asked in their order."""

    def __init__(self, *replicas):
        self.replicas = replicas
        self.hedge = Hedge()
        self.failures, self.lost = [], []

    def choose(self, tried=()):
        return next((replica for replica in self.replicas if replica not in tried), None)

    def read(self, peer, message, kind, payload, latency_s):
        return read_reply(message, payload.rows, latency_s)

    def failed(self, peer, reason):
        self.failures.append((peer, reason))

    def lost_with(self, peer, payload):
        self.lost.append((peer, payload))


@pytest.fixture
def replies():
    return []


def start(routes, replies, *, in_s=60.0, rows=1, patience_s=0.0, percentile=None):
    terms = Terms(time.monotonic() + in_s, patience_s, percentile)
    call = Call(routes, Kind.CALL, payload(rows), terms, replies.append)
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
    routes = FakeRoutes(lost, other)
    start(routes, replies)
    lost.close()
    assert [peer for peer, _ in routes.lost] == [lost]
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
    routes = FakeRoutes(replica)
    start(routes, replies, patience_s=patience_s).give_up(reason)
    assert replica.dropped
    assert routes.failures == []


def used_routes(*replicas, calls=1000, latency_s=0.0):
    """Routes whose calls have all taken this long so far."""
    routes = FakeRoutes(*replicas)
    routes.hedge.calls = calls
    for _ in range(100):
        routes.hedge.answered(latency_s)
    return routes


def hedging(replies, *replicas, calls=1000, patience_s=0.0):
    """A call that is late at once; for use on an event loop."""
    return start(used_routes(*replicas, calls=calls), replies, patience_s=patience_s, percentile=95)


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


def test_a_call_without_a_percentile_is_not_hedged_however_late(replies):
    async def scenario():
        slow, other = FakeReplica("slow"), FakeReplica("other")
        routes = used_routes(slow, other)
        start(routes, replies)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not other.asked

    asyncio.run(scenario())


@pytest.mark.parametrize("refuses_first", [True, False])
def test_a_failure_of_one_replica_does_not_end_a_call_whose_hedge_is_out(replies, refuses_first):
    async def scenario():
        replicas = [FakeReplica("first"), FakeReplica("hedge")]
        hedging(replies, *replicas)
        await until_asked(replicas[1])
        refusing, good = replicas if refuses_first else replicas[::-1]
        refusing.answer(kind=Kind.FAILURE)
        assert replies == []
        good.answer()
        assert [reply.reason for reply in replies] == [""]

    asyncio.run(scenario())


@pytest.mark.parametrize("end", [FakeReplica.close, lambda replica: replica.answer(tensors=())])
def test_a_call_that_both_replicas_fail_ends_with_the_first_reason(replies, end):
    async def scenario():
        slow, other = FakeReplica("slow"), FakeReplica("other")
        hedging(replies, slow, other)
        await until_asked(other)
        other.answer(kind=Kind.FAILURE)
        end(slow)
        assert [reply.reason for reply in replies] == ["error"]

    asyncio.run(scenario())


def test_a_hedge_that_was_sent_a_moment_ago_is_not_judged_when_the_call_is_given_up(replies):
    async def scenario():
        slow, other = FakeReplica("slow"), FakeReplica("other")
        routes = used_routes(slow, other, latency_s=0.2)
        call = start(routes, replies, patience_s=0.1, percentile=95)
        await until_asked(other)
        call.give_up()
        assert routes.failures == [(slow, "deadline")]
        assert slow.dropped
        assert other.dropped

    asyncio.run(scenario())
