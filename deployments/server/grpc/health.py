"""The standard services beside inference: ``grpc.health.v1`` for load balancers, reflection for tools like grpcurl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from quorate.deployments.server.grpc.access import level_of
from quorate.deployments.server.grpc.call import Call, CallError, Method
from quorate.deployments.server.grpc.feedback import SERVICE as FEEDBACK
from quorate.deployments.server.grpc.rpcs import SERVICE, stream, unary
from quorate.deployments.server.service import Service

WATCH_S = 0.5
_STATUS = health_pb2.HealthCheckResponse
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health:
    """Serving means that a quorum of members takes calls."""

    def __init__(self, service: Service, names: tuple[str, ...]):
        self._service, self._names = service, ("", *names)

    async def check(self, request: Any, _call: Call) -> Any:
        status = self._status(request.service)
        if status == _STATUS.SERVICE_UNKNOWN:
            raise CallError("NOT_FOUND", f"there is no service '{request.service[:100]}'; reflection lists those")
        return _STATUS(status=status)

    async def watch(self, _requests: Any, call: Call) -> AsyncGenerator[Any, None]:
        request, told = await call.request(), None
        while True:
            status = self._status(request.service)
            if status != told:
                told = status
                yield _STATUS(status=status)
            await asyncio.sleep(WATCH_S)

    def _status(self, name: str) -> Any:
        if name not in self._names:
            return _STATUS.SERVICE_UNKNOWN
        return _STATUS.SERVING if self._service.ready() else _STATUS.NOT_SERVING


def standard_methods(service: Service) -> dict[bytes, Method]:
    """The RPCs of both, by path."""
    names = (SERVICE.full_name, HEALTH)
    health, shown = Health(service, names), (*names, FEEDBACK.full_name, reflection.SERVICE_NAME)
    reflect = reflection.aio.ReflectionServicer(shown).ServerReflectionInfo
    found = {
        f"/{HEALTH}/Check": (unary(health.check), health_pb2.HealthCheckRequest, False),
        f"/{HEALTH}/Watch": (stream(health.watch), health_pb2.HealthCheckRequest, False),
        f"/{reflection.SERVICE_NAME}/ServerReflectionInfo": (
            stream(reflect),
            reflection_pb2.ServerReflectionRequest,
            True,
        ),
    }
    return {
        path.encode(): Method(answer, request, level_of(path), streams)
        for path, (answer, request, streams) in found.items()
    }
