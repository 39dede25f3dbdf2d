"""A line for each request at the doors, where logs are to be verbose."""

from __future__ import annotations

import logging
import time

from quorate.deployments.telemetry.call_context import CallContext
from quorate.deployments.telemetry.current import stop_working, work_for
from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.wire.inference import InferRequest

_log = logging.getLogger(__name__)


def log_request(
    trace: RequestTrace, request: InferRequest, revision: str, started_ns: int, error: BaseException | None = None
) -> None:
    """
    Args:
        started_ns: of ``time.perf_counter_ns``.
        error: what it ended in, instead of an answer.
    """
    rows, took_ms = len(next(iter(request.inputs.values()), ())), (time.perf_counter_ns() - started_ns) / 1e6
    asked = (trace.request_id, f"{trace.context.trace_id:032x}")
    whom = CallContext(trace.context, revision, (asked,))
    token = work_for(lambda: whom)
    try:
        outcome = "answered" if error is None else f"{type(error).__name__}: {error}"
        _log.info("%d rows for %s in %.2f ms: %s", rows, request.model, took_ms, outcome)
    finally:
        stop_working(token)
