"""Spans handed to OpenTelemetry's SDK and sent to an OTLP receiver over gRPC; the extra ``quorate[otel]``.

Headers, certificates, limits and delays are what the SDK's own environment variables say on each node.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.span import TraceState

from quorate.deployments.telemetry.spans import Attributes, SpanKind, Value
from quorate.deployments.telemetry.trace_context import TraceContext

_SAMPLED = int(trace.TraceFlags.SAMPLED)
_UNSET = trace.Status(trace.StatusCode.UNSET)
_IDS, _SCOPE = RandomIdGenerator(), InstrumentationScope("quorate", version("quorate"))
_KINDS = {kind: trace.SpanKind[kind.value] for kind in SpanKind}


class OtlpSpan:
    """A span that is the SDK's when it has ended: until then one of its own costs a fifth of what the SDK's does."""

    __slots__ = ("_attributes", "_events", "_kind", "_links", "_name", "_parent", "_recorder", "_start_ns", "_status",
                 "context")  # fmt: skip

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
        self._links, self._events, self._status = list(links), list[Event](), _UNSET
        self._start_ns = time.time_ns() if start_ns is None else start_ns
        trace_id, flags, state = (
            (_IDS.generate_trace_id(), _SAMPLED, "")
            if parent is None
            else (parent.trace_id, parent.flags, parent.state)
        )
        self.context = TraceContext(trace_id, _IDS.generate_span_id(), flags, state)

    def set(self, attributes: Attributes) -> None:
        self._attributes.update(attributes)

    def event(self, name: str, attributes: Attributes) -> None:
        self._events.append(Event(name, attributes, time.time_ns()))

    def link(self, context: TraceContext) -> None:
        self._links.append(context)

    def fail(self, sentence: str) -> None:
        self._status = trace.Status(trace.StatusCode.ERROR, sentence)

    def end(self, end_ns: int | None = None) -> None:
        self._recorder.ended(
            ReadableSpan(
                self._name,
                _sdk_context(self.context, is_remote=False),
                None if self._parent is None else _sdk_context(self._parent),
                self._recorder.resource,
                self._attributes,
                self._events,
                [trace.Link(_sdk_context(link)) for link in self._links],
                _KINDS[self._kind],
                status=self._status,
                start_time=self._start_ns,
                end_time=time.time_ns() if end_ns is None else end_ns,
                instrumentation_scope=_SCOPE,
            )
        )


class OtlpRecorder:
    """A process's spans. What is to be recorded is decided before it is asked.

    Attributes:
        resource: what all of them are of.
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
        self.resource = Resource.create(
            {
                **named,
                "service.namespace": "quorate",
                "service.version": version("quorate"),
                "service.instance.id": instance,
                "host.name": socket.gethostname(),
                "process.pid": os.getpid(),
            }
        )
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint or None))
        self.ended = self._processor.on_end

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


def _sdk_context(context: TraceContext, is_remote: bool = True) -> trace.SpanContext:
    state = _state(context.state) if context.state else None
    return trace.SpanContext(context.trace_id, context.span_id, is_remote, trace.TraceFlags(context.flags), state)


@lru_cache(256)
def _state(text: str) -> TraceState:
    return TraceState.from_header([text])
