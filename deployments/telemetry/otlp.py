"""Spans handed to OpenTelemetry's SDK and sent to an OTLP receiver over gRPC; the extra ``quorate[otel]``.

Headers, certificates, limits and delays are what the SDK's own environment variables say on each node.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from quorate.deployments.telemetry.spans import Attributes, Span, SpanKind, Value
from quorate.deployments.telemetry.trace_context import TraceContext

_SCOPE = InstrumentationScope("quorate", version("quorate"))
_KINDS = {kind: otlp.Span.SpanKind.Value(f"SPAN_KIND_{kind.value}") for kind in SpanKind}
_SAMPLED = int(trace.TraceFlags.SAMPLED)
_SAMPLED_CONTEXT = trace.SpanContext(1, 1, False, trace.TraceFlags(_SAMPLED))
# Of spans and links: it is said whether the other span is of another process, and that it is.
_SAID = otlp.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _SAID | otlp.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


class OtlpSpan:
    """A span that is written as OTLP has it when it is sent: to make and encode the SDK's takes ten times as long.

    What others need not know is not even thought of before: ids, and spans that are sent with another.
    """

    __slots__ = ("_attributes", "_context", "_end_ns", "_error", "_events", "_kind", "_links", "_name", "_parent",
                 "_parts", "_recorder", "_start_ns", "_within")  # fmt: skip

    def __init__(
        self,
        recorder: OtlpRecorder,
        name: str,
        parent: TraceContext | None,
        kind: SpanKind,
        attributes: Attributes | None,
        links: Sequence[TraceContext],
        start_ns: int | None,
        within: OtlpSpan | None,
    ):
        self._recorder, self._name, self._parent, self._kind = recorder, name, parent, kind
        self._attributes: dict[str, Value] = dict(attributes or {})
        self._links: Sequence[TraceContext] = links
        self._events: Sequence[tuple[str, Attributes, int]] = ()
        self._error, self._within, self._parts = "", within, list[OtlpSpan]()
        self._start_ns, self._end_ns = time.time_ns() if start_ns is None else start_ns, 0
        self._context: TraceContext | None = None

    @property
    def context(self) -> TraceContext:
        if self._context is None:
            parent, span_id = self._parent, random.getrandbits(64) or 1
            self._context = (
                TraceContext(random.getrandbits(128) or 1, span_id, _SAMPLED)
                if parent is None
                else TraceContext(parent.trace_id, span_id, parent.flags, parent.state)
            )
        return self._context

    def set(self, attributes: Attributes) -> None:
        self._attributes.update(attributes)

    def event(self, name: str, attributes: Attributes) -> None:
        self._events = [*self._events, (name, attributes, time.time_ns())]

    def link(self, context: TraceContext) -> None:
        self._links = [*self._links, context]

    def fail(self, sentence: str) -> None:
        self._error = sentence

    def end(self, end_ns: int | None = None) -> None:
        self._end_ns = time.time_ns() if end_ns is None else end_ns
        if self._within is None or self._within._end_ns:  # it has been sent without this one
            self._recorder.ended(_Ended(_SAMPLED_CONTEXT, self))
        else:
            self._within._parts.append(self)

    def encoded(self) -> list[otlp.Span]:
        """As it is sent, with those that are sent with it."""
        return [self._encoded(), *(span for part in self._parts for span in part.encoded())]

    def _encoded(self) -> otlp.Span:
        context, parent = self.context, self._parent
        found = otlp.Span(
            trace_id=context.trace_id.to_bytes(16, "big"), span_id=context.span_id.to_bytes(8, "big"),
            trace_state=context.state, parent_span_id=b"" if parent is None else parent.span_id.to_bytes(8, "big"),
            name=self._name, kind=_KINDS[self._kind], flags=_SAID if parent is None else _REMOTE,
            start_time_unix_nano=self._start_ns, end_time_unix_nano=self._end_ns,
        )  # fmt: skip
        _write(self._attributes, found.attributes)
        for name, attributes, at_ns in self._events:
            _write(attributes, found.events.add(name=name, time_unix_nano=at_ns).attributes)
        for link in self._links:
            found.links.add(
                trace_id=link.trace_id.to_bytes(16, "big"), span_id=link.span_id.to_bytes(8, "big"), flags=_REMOTE
            )
        if self._error:
            found.status.code, found.status.message = otlp.Status.STATUS_CODE_ERROR, self._error
        return found


class _Deferred:
    """A span that is made when it is sent."""

    __slots__ = ("_end_ns", "_make")

    def __init__(self, make: Callable[[], Span | None], end_ns: int):
        self._make, self._end_ns = make, end_ns

    def encoded(self) -> list[otlp.Span]:
        span = self._make()
        if not isinstance(span, OtlpSpan):
            return []
        span._end_ns = self._end_ns
        return span.encoded()


class _Ended(NamedTuple):
    """A span for the SDK's processor, which looks at nothing but the flags of a context."""

    context: trace.SpanContext
    span: OtlpSpan | _Deferred


class _Exporter(OTLPSpanExporter):
    """The SDK's, for spans that encode themselves."""

    def __init__(self, endpoint: str, resource: Resource):
        super().__init__(endpoint or None)
        first = ReadableSpan("", _SAMPLED_CONTEXT, resource=resource, instrumentation_scope=_SCOPE)
        self._around = encode_spans([first])

    def _translate_data(self, data: Sequence[Any]) -> ExportTraceServiceRequest:
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._around)
        spans = request.resource_spans[0].scope_spans[0].spans
        del spans[:]
        spans.extend([span for ended in data for span in ended.span.encoded()])
        return request


class OtlpRecorder:
    """A process's spans. What is to be recorded is decided before it is asked.

    Attributes:
        ended: takes one that is to be sent.
    """

    def __init__(self, endpoint: str, service: str, instance: str):
        """
        Args:
            endpoint: URL; empty for what the environment says.
            service: ``service.name``, unless the environment names another.
            instance: ``service.instance.id``.
        """
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
        resource = Resource.create(
            {
                **named,
                "service.namespace": "quorate",
                "service.version": version("quorate"),
                "service.instance.id": instance,
                "host.name": socket.gethostname(),
                "process.pid": os.getpid(),
            }
        )
        self._processor = BatchSpanProcessor(_Exporter(endpoint, resource))
        self.ended: Callable[[Any], None] = self._processor.on_end

    def start(
        self,
        name: str,
        parent: TraceContext | None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        links: Sequence[TraceContext] = (),
        start_ns: int | None = None,
        within: Span | None = None,
    ) -> OtlpSpan:
        assert within is None or isinstance(within, OtlpSpan)
        return OtlpSpan(self, name, parent, kind, attributes, links, start_ns, within)

    def defer(self, make: Callable[[], Span | None], end_ns: int) -> None:
        self.ended(_Ended(_SAMPLED_CONTEXT, _Deferred(make, end_ns)))

    def close(self) -> None:
        self._processor.shutdown()


def _write(attributes: Attributes, place: Any) -> None:
    """Into a message's own."""
    for name, value in attributes.items():
        found = place.add(key=name).value
        if isinstance(value, str):
            found.string_value = value
        elif isinstance(value, bool):
            found.bool_value = value
        elif isinstance(value, int):
            found.int_value = value
        else:
            found.double_value = value
