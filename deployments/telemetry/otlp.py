"""Spans handed to OpenTelemetry's SDK and sent to an OTLP receiver over gRPC; the extra ``quorate[otel]``.

Headers, certificates, limits and delays are what the SDK's own environment variables say on each node.
"""

from __future__ import annotations

import os
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
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from quorate.deployments.telemetry.spans import Attributes, SpanKind, Value
from quorate.deployments.telemetry.trace_context import TraceContext

_IDS, _SCOPE = RandomIdGenerator(), InstrumentationScope("quorate", version("quorate"))
_KINDS = {kind: otlp.Span.SpanKind.Value(f"SPAN_KIND_{kind.value}") for kind in SpanKind}
_SAMPLED = int(trace.TraceFlags.SAMPLED)
_SAMPLED_CONTEXT = trace.SpanContext(1, 1, False, trace.TraceFlags(_SAMPLED))
# Of spans and links: it is said whether the other span is of another process, and that it is.
_SAID = otlp.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _SAID | otlp.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


class OtlpSpan:
    """A span that is written as OTLP has it when it is sent: to make and encode the SDK's takes ten times as long."""

    __slots__ = ("_attributes", "_end_ns", "_error", "_events", "_kind", "_links", "_name", "_parent", "_recorder",
                 "_start_ns", "context")  # fmt: skip

    def __init__(
        self,
        recorder: OtlpRecorder,
        name: str,
        parent: TraceContext | None,
        kind: SpanKind,
        attributes: Attributes | None,
        links: Sequence[TraceContext],
        start_ns: int | None,
    ):
        self._recorder, self._name, self._parent, self._kind = recorder, name, parent, kind
        self._attributes: dict[str, Value] = dict(attributes or {})
        self._links, self._events, self._error = list(links), list[tuple[str, Attributes, int]](), ""
        self._start_ns, self._end_ns = time.time_ns() if start_ns is None else start_ns, 0
        trace_id, flags, state = (
            (_IDS.generate_trace_id(), _SAMPLED, "")
            if parent is None
            else (parent.trace_id, parent.flags, parent.state)
        )
        self.context = TraceContext(trace_id, _IDS.generate_span_id(), flags, state)

    def set(self, attributes: Attributes) -> None:
        self._attributes.update(attributes)

    def event(self, name: str, attributes: Attributes) -> None:
        self._events.append((name, attributes, time.time_ns()))

    def link(self, context: TraceContext) -> None:
        self._links.append(context)

    def fail(self, sentence: str) -> None:
        self._error = sentence

    def end(self, end_ns: int | None = None) -> None:
        self._end_ns = time.time_ns() if end_ns is None else end_ns
        self._recorder.ended(_Ended(_SAMPLED_CONTEXT, self))

    def encoded(self) -> otlp.Span:
        """As it is sent."""
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


class _Ended(NamedTuple):
    """A span for the SDK's processor, which looks at nothing but the flags of a context."""

    context: trace.SpanContext
    span: OtlpSpan


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
        spans.extend([ended.span.encoded() for ended in data])
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
    ) -> OtlpSpan:
        return OtlpSpan(self, name, parent, kind, attributes, links, start_ns)

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
