"""Traces of requests that travel together: one of them goes on, and the others are linked to it and it to them.

Source: OpenTelemetry specification, Trace API, "Links between spans"; semantic conventions for messaging, "Batch".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from quorate.deployments.telemetry.call_context import AskedBy
from quorate.deployments.telemetry.spans import Attributes, Recorder, Span, SpanKind, Value, wall_ns
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.telemetry.tracer import RequestTrace

# A call that came to nothing for these reasons is no fault of the member.
_NO_FAULT = ("gone",)


class CallTrace:
    """One call to a member.

    Attributes:
        context: to be sent with it.
    """

    __slots__ = ("_again", "_replica", "_span", "context")

    def __init__(self, span: Span | None, context: bytes):
        self._span, self.context, self._again, self._replica = span, context, False, ""

    def sent(self, replica: str, why: str) -> None:
        """It goes to a replica: first, as a hedge, or as a retry."""
        if not why:
            self._replica = replica
        elif self._span is not None:
            self._span.event(why, {"quorate.replica": replica})
            self._span.set({f"quorate.{why}": True})
            self._again = True

    def answered(self, rows: int, failed_rows: int, inference_s: float, replica: str) -> None:
        """A replica has answered. What goes without saying is not said: each attribute has its price."""
        if self._span is not None:
            self._span.set({"quorate.replica": self._replica, "quorate.inference_s": inference_s})
            if self._again:
                self._span.set({"quorate.answered_by": replica})
            if failed_rows:
                self._span.set({"quorate.failed_rows": failed_rows})
            if failed_rows >= rows:
                self._span.fail("no row was answered")
            self._end()

    def failed(self, reason: str) -> None:
        """It has come to nothing: left out, dead, shed, deadline, gone, or what the replica says."""
        if self._span is not None:
            told = {"quorate.replica": self._replica} if self._replica else {}
            self._span.set({**told, "quorate.reason": reason})
            if reason not in _NO_FAULT:
                self._span.event(reason, {})
                self._span.set({"error.type": reason})
                self._span.fail(reason)
            self._end()

    def _end(self) -> None:
        span, self._span = self._span, None
        if span is not None:
            span.end()


class Timed:
    """A span as a context: it ends with its block, and fails with it."""

    __slots__ = ("_span",)

    def __init__(self, span: Span | None):
        self._span = span

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._span is not None:
            if error is not None:
                self._span.fail(f"{type(error).__name__}: {error}")
            self._span.end()


NOT_TRACED = Timed(None)


class BatchTrace:
    """The traced requests of one batch, of which the first that is recorded goes on."""

    def __init__(self, traces: Sequence[tuple[RequestTrace, float]], revision: str, attributes: Mapping[str, Value]):
        """
        Args:
            traces: of the requests, and when each arrived (monotonic time).
            attributes: of the batch.
        """
        recorded = [(trace, arrived) for trace, arrived in traces if trace.span is not None]
        first = recorded[0][0] if recorded else traces[0][0]
        self._recorder: Recorder | None = first.recorder
        self._span: Span | None = None
        asked = tuple([(trace.request_id, f"{trace.context.trace_id:032x}") for trace, _ in traces])
        self._asked, self._context = AskedBy(revision, asked), first.context
        if self._recorder is not None:
            self._begin(recorded, self._recorder, {**attributes, "quorate.revision": revision})

    def _begin(
        self, recorded: Sequence[tuple[RequestTrace, float]], recorder: Recorder, attributes: Attributes
    ) -> None:
        links = [trace.context for trace, _ in recorded[1:]]
        self._span = span = recorder.start("batch", self._context, attributes=attributes, links=links)
        for number, (trace, arrived) in enumerate(recorded):
            queued = recorder.start("queue", trace.context, start_ns=wall_ns(arrived), within=span)
            if number:
                queued.link(span.context)
            queued.end()
        self._context = span.context

    def call(self, member: str, rows: int) -> CallTrace:
        """A call to a member begins."""
        span, context = None, self._context
        if self._recorder is not None:
            attributes: Attributes = {"quorate.member": member, "quorate.rows": rows}
            span = self._recorder.start(f"call {member}", context, SpanKind.CLIENT, attributes, within=self._span)
            context = span.context
        return CallTrace(span, self._asked.of(context))

    def fuse(self, rule: str, rows: int) -> Timed:
        """The members' answers are fused."""
        if self._recorder is None:
            return NOT_TRACED
        attributes: Attributes = {"quorate.rule": rule, "quorate.rows": rows}
        return Timed(self._recorder.start("fuse", self._context, attributes=attributes, within=self._span))

    def end(self) -> None:
        """Every request of the batch has its answer."""
        span, self._span = self._span, None
        if span is not None:
            span.end()


def direct_call(trace: RequestTrace, member: str, rows: int, revision: str) -> CallTrace:
    """The call of a request that asks one member alone."""
    span, context = None, trace.context
    if trace.recorder is not None:
        attributes: Attributes = {"quorate.member": member, "quorate.rows": rows}
        span = trace.recorder.start(f"call {member}", context, SpanKind.CLIENT, attributes)
        context = span.context
    asked = ((trace.request_id, f"{context.trace_id:032x}"),)
    return CallTrace(span, AskedBy(revision, asked).of(context))


def linked(contexts: Sequence[TraceContext]) -> tuple[TraceContext, list[TraceContext]]:
    """Of spans whose calls run as one: the first that is recorded, and the other recorded ones."""
    recorded = [context for context in contexts if context.sampled]
    return (recorded[0], recorded[1:]) if recorded else (contexts[0], [])
