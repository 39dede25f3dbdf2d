"""A receiver of OTLP over gRPC: OpenTelemetry's own messages and service, spans by name."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

WAIT_S = 30


@dataclass
class Received:
    """A span as it came."""

    service: str
    pid: int
    host: str
    span: Any
    attributes: dict = field(default_factory=dict)

    @property
    def name(self):
        return self.span.name

    @property
    def trace_id(self):
        return self.span.trace_id.hex()

    @property
    def span_id(self):
        return self.span.span_id.hex()

    @property
    def parent(self):
        return self.span.parent_span_id.hex()

    @property
    def links(self):
        return {link.span_id.hex() for link in self.span.links}

    @property
    def events(self):
        return [event.name for event in self.span.events]

    @property
    def failed(self):
        return self.span.status.code == 2


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans for as long as the context lasts.

    Attributes:
        endpoint: for exporters.
        spans: those that have come.
    """

    def __init__(self, host="127.0.0.1", port=0):
        self.spans, self._arrived = [], threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://{host}:{self._server.add_insecure_port(f'{host}:{port}')}"

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None)

    def Export(self, request, context):  # noqa: N802
        with self._arrived:
            for resource in request.resource_spans:
                of = {item.key: _value(item.value) for item in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        said = {item.key: _value(item.value) for item in span.attributes}
                        place = of["service.name"], of["process.pid"], of["host.name"]
                        self.spans.append(Received(*place, span, said))
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait(self, enough):
        """The spans, once ``enough`` says so of them."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: enough(self.spans), WAIT_S), [span.name for span in self.spans]
            return list(self.spans)


def _value(value):
    return getattr(value, value.WhichOneof("value"))


def main(host, port, file):
    """Write what comes to a file, a line of JSON a span, until standard input closes."""
    with OtlpReceiver(host, int(port)) as receiver:
        print("ready", flush=True)
        while sys.stdin.readline():
            told = [
                {
                    "service": span.service, "pid": span.pid, "host": span.host, "name": span.name,
                    "trace": span.trace_id, "span": span.span_id, "parent": span.parent, "failed": span.failed,
                }
                for span in list(receiver.spans)
            ]  # fmt: skip
            Path(file).write_text(json.dumps(told))
            print("written", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
