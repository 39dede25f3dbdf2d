"""The standard services beside inference: ``grpc.health.v1`` for load balancers, reflection for tools like grpcurl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from quorate.deployments.server.service import Service

WATCH_S = 0.5
_STATUS = health_pb2.HealthCheckResponse
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Serving means that a quorum of members takes calls."""

    def __init__(self, service: Service, names: tuple[str, ...]):
        self._service, self._names = service, ("", *names)

    async def Check(self, request: Any, context: ServicerContext) -> Any:
        status = self._status(request.service)
        if status == _STATUS.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service '{request.service[:100]}'")
        return _STATUS(status=status)

    async def Watch(self, request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        told = None
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


def add_health_and_reflection(server: Any, service: Service, name: str) -> None:
    """Add both to a server whose other service is ``name``."""
    health_pb2_grpc.add_HealthServicer_to_server(Health(service, (name, HEALTH)), server)
    reflection.enable_server_reflection((name, HEALTH, reflection.SERVICE_NAME), server)
