"""Contexts on the wire, as OpenTelemetry's own propagator reads and writes them."""

import pytest
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from quorate.deployments.telemetry.trace_context import new_context, read_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def theirs(parent):
    context = TraceContextTextMapPropagator().extract({"traceparent": parent})
    found = trace.get_current_span(context).get_span_context()
    return (found.trace_id, found.span_id, bool(found.trace_flags & 1)) if found.is_valid else None


def ours(parent):
    found = read_context([parent])
    return None if found is None else (found.trace_id, found.span_id, found.sampled)


@pytest.mark.parametrize(
    "parent",
    [
        f"00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-03",
        f"cc-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"{TRACE}-{SPAN}-01",
        "",
    ],
)
def test_a_header_is_read_as_by_opentelemetry(parent):
    assert ours(parent) == theirs(parent)


def test_of_two_parents_none_counts_and_states_are_joined():
    parent = f"00-{TRACE}-{SPAN}-01"
    assert read_context([parent, parent]) is None
    context = read_context([parent], ["a=1,b=2", " c=3 "])
    assert context is not None
    assert context.headers() == {"traceparent": parent, "tracestate": "a=1,b=2,c=3"}
    without = read_context([parent], ["x" * 513])
    assert without is not None
    assert without.headers() == {"traceparent": parent}


def test_a_context_that_begins_here_is_one_that_others_can_read():
    context = new_context()
    assert theirs(context.traceparent) == (context.trace_id, context.span_id, False)
