"""What the span of a call says: where it went, and what became of it."""

import asyncio
import time

import pytest

from quorate.deployments.engine.fan_out import not_asked
from quorate.deployments.routing.call import Call
from quorate.deployments.routing.hedge import MIN_LATENCIES
from quorate.deployments.routing.terms import Terms
from quorate.deployments.telemetry.batch_trace import BatchTrace
from quorate.deployments.telemetry.call_context import read_call_context
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.transport.messages import Kind
from tests.deployments.routing.test_call import FakeRoutes
from tests.deployments.support.fake_replicas import FakeReplica, payload
from tests.deployments.support.recorded_spans import RecordedSpans

PARENT = TraceContext(7, 9, 1)


@pytest.fixture
def spans():
    return RecordedSpans()


@pytest.fixture
def batch(spans):
    door = spans.start("door", PARENT)
    trace = RequestTrace(door.context, spans, door)
    trace.named("seven")
    return BatchTrace([(trace, time.monotonic())], "r1", {})


def start(routes, batch, percentile=None):
    terms = Terms(time.monotonic() + 60, 0.0, percentile, batch.call("cnn", 1))
    call = Call(routes, Kind.CALL, payload(), terms, lambda reply: None)
    call.start(routes.replicas[0])
    return call


def test_an_answered_call_names_its_replica_and_its_context_reaches_it(spans, batch):
    replica = FakeReplica("first")
    start(FakeRoutes(replica), batch)
    ((call_id, context),) = replica.contexts.items()
    replica.answer(call_id=call_id)
    span = spans.spans[-1]
    assert (span.name, span.ended, span.failure) == ("call cnn", True, "")
    assert span.attributes == {
        "quorate.member": "cnn", "quorate.rows": 1, "quorate.replica": "first", "quorate.inference_s": 0.25
    }  # fmt: skip
    sent = read_call_context(context.decode())
    assert sent is not None
    assert (sent.span, sent.revision, sent.requests) == (span.context, "r1", (("seven", f"{7:032x}"),))


def test_a_retry_is_an_event_with_the_replica_that_it_went_to(spans, batch):
    lost, other = FakeReplica("lost"), FakeReplica("other")
    start(FakeRoutes(lost, other), batch)
    lost.close()
    other.answer()
    span = spans.spans[-1]
    assert span.events == [("retry", {"quorate.replica": "other"})]
    assert (span.attributes["quorate.retry"], span.attributes["quorate.answered_by"]) == (True, "other")
    assert other.contexts


def test_a_hedge_is_an_event_too(spans, batch):
    async def run():
        late, other = FakeReplica("late"), FakeReplica("other")
        routes = FakeRoutes(late, other)
        routes.hedge.calls = 1000
        for _ in range(MIN_LATENCIES):
            routes.hedge.answered(0.0)
        start(routes, batch, percentile=50)
        for _ in range(10):  # the timer is due at once
            await asyncio.sleep(0)
        other.answer()

    asyncio.run(run())
    span = spans.spans[-1]
    assert span.events == [("hedge", {"quorate.replica": "other"})]
    assert span.attributes["quorate.answered_by"] == "other"


@pytest.mark.parametrize(("reason", "failure"), [("deadline", "deadline"), ("gone", "")])
def test_a_call_that_is_given_up_says_why_and_is_a_failure_unless_the_client_has_gone(spans, batch, reason, failure):
    start(FakeRoutes(FakeReplica()), batch).give_up(reason)
    span = spans.spans[-1]
    assert (span.attributes["quorate.reason"], span.failure, span.ended) == (reason, failure, True)


def test_a_lost_call_has_failed(spans, batch):
    replica = FakeReplica()
    start(FakeRoutes(replica), batch)
    replica.close()
    assert (spans.spans[-1].attributes["error.type"], spans.spans[-1].failure) == ("dead", "dead")


def test_a_member_that_is_left_out_has_a_span_that_says_so(spans, batch):
    not_asked(Terms(0.0, trace=batch.call("cnn", 1)), "deadline")
    span = spans.spans[-1]
    assert (span.events, span.failure, span.ended) == ([("deadline", {})], "deadline", True)
