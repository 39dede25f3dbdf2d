"""A request's trace at a door: the context that it comes with, its span, and what the span says in the end."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from quorate.deployments.telemetry.spans import Attributes, Value
from quorate.deployments.telemetry.trace_context import TraceContext, read_context
from quorate.deployments.telemetry.tracer import RequestTrace, Tracer
from quorate.deployments.wire.inference import InferResponse
from quorate.fusion.errors import QuorateError

Header = tuple[bytes, bytes]
# Where an inference is asked for over HTTP.
ROUTE = "/v2/models/{model}/infer"
# Of an answer's account of itself.
_TOLD = ("revision", "members_used", "members_missing", "coverage", "degraded")


def context_of(headers: Iterable[Header]) -> TraceContext | None:
    """The trace that a request comes with; None for nearly all."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if not parents:
        return None
    states = [value.decode("latin-1") for name, value in headers if name == b"tracestate"]
    return read_context([value.decode("latin-1") for value in parents], states)


def begin_http(
    tracer: Tracer, model: str, given: TraceContext | None, route: str, began_s: float | None = None
) -> RequestTrace | None:
    """An HTTP request for an inference has come in; None where it is not traced.

    Args:
        began_s: when (monotonic time); now when None.

    Source of the names: OpenTelemetry semantic conventions, "HTTP server".
    """
    if given is None and not tracer.looks():
        return None
    return tracer.begin(model, given, f"POST {route}", partial(_http_attributes, model, route), began_s)


def begin_grpc(tracer: Tracer, model: str, given: TraceContext | None, rpc: str) -> RequestTrace | None:
    """The same of a message over gRPC. Source of the names: the same, "gRPC server"."""
    if given is None and not tracer.looks():
        return None
    return tracer.begin(model, given, f"inference.GRPCInferenceService/{rpc}", partial(_grpc_attributes, model, rpc))


def answer_headers(trace: RequestTrace) -> list[Header]:
    """What tells the client of the span that its request had here, or of the one that was passed on."""
    return [(name.encode(), value.encode()) for name, value in trace.context.headers().items()]


def answered(trace: RequestTrace, response: InferResponse) -> None:
    """Say how a request was answered."""
    if trace.span is not None:
        said: dict[str, Value] = {
            f"quorate.{name}": response.parameters[name] for name in _TOLD if name in response.parameters
        }
        trace.span.set(said)


def failed(trace: RequestTrace, error: BaseException) -> None:
    """Say that it was not. What the client has done wrong is no failure of the server."""
    if trace.span is not None:
        trace.span.set({"error.type": type(error).__name__})
        if not isinstance(error, QuorateError) or error.http_status >= 500:
            trace.span.fail(str(error) or type(error).__name__)


def ended(trace: RequestTrace, attributes: Attributes) -> None:
    """The answer is written."""
    if trace.span is not None:
        trace.span.set(attributes)
        trace.span.end()


def _http_attributes(model: str, route: str) -> Attributes:
    return {"http.request.method": "POST", "http.route": route, "quorate.model": model}


def _grpc_attributes(model: str, rpc: str) -> Attributes:
    return {
        "rpc.system": "grpc", "rpc.service": "inference.GRPCInferenceService", "rpc.method": rpc,
        "quorate.model": model,
    }  # fmt: skip
