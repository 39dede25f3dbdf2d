"""Rows in bulk wait for room: a stream can, and what is asked one by one cannot."""

from __future__ import annotations

import asyncio
import time

from quorate.deployments.errors import OverloadedError
from quorate.deployments.server.service import Service
from quorate.deployments.server.tracing import ROUTE, begin_http, ended, failed
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.wire.inference import InferRequest, InferResponse

# A server that is overloaded for so long ends what waits.
PATIENCE_S = 30.0
_PAUSE_S = 0.01


async def infer_when_there_is_room(
    service: Service, request: InferRequest, given: TraceContext | None = None
) -> tuple[InferResponse, float]:
    """The answer, and how long it took once there was room.

    Args:
        given: the trace that its stream came with; the request's span is one of many in it.

    Raises:
        OverloadedError: there was none for ``PATIENCE_S``.
        QuorateError: what ``Service.infer`` raises.
    """
    trace = request.trace = begin_http(service.engine.tracer, request.model, given, ROUTE)
    if trace is None:
        return await _infer_in_time(service, request)
    try:
        found = await _infer_in_time(service, request)
    except BaseException as error:
        failed(trace, error)
        raise
    finally:
        ended(trace, {})
    return found


async def _infer_in_time(service: Service, request: InferRequest) -> tuple[InferResponse, float]:
    engine = service.engine
    limit = engine.spec.serving.max_queued_rows
    until = time.monotonic() + PATIENCE_S
    while True:
        asked = time.monotonic()
        late = asked > until
        if engine.queued_rows <= limit // 2 or late:
            try:
                with service.budget.hold() as hold:
                    return await service.infer(request, hold), time.monotonic() - asked
            except OverloadedError:
                if late:
                    raise
        await asyncio.sleep(_PAUSE_S)
