"""What an RPC may do: its bearer token in the metadata, read before its message is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio
from grpc.aio import ServicerContext

from quorate.deployments.security.access import Doorkeeper, Level
from quorate.fusion.errors import QuorateError

_INFERENCE = "/inference.GRPCInferenceService/"
_HEALTH = "/grpc.health.v1.Health/"
_OPEN = {f"{_INFERENCE}ServerLive", f"{_INFERENCE}ServerReady", f"{_HEALTH}Check", f"{_HEALTH}Watch"}
# All others of the service, also ones that come later, need a management token.
_ASKING = {
    f"{_INFERENCE}{name}"
    for name in (
        "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer", "ModelStreamInfer", "ModelConfig",
        "ModelStatistics", "RepositoryIndex",
    )
}  # fmt: skip


def level_of(method: str) -> Level:
    """What an RPC, by its full path, asks for."""
    if method in _OPEN:
        return Level.OPEN
    return Level.MANAGE if method.startswith(_INFERENCE) and method not in _ASKING else Level.ASK


class Guarded:
    """A server whose handlers stand behind a doorkeeper. An interceptor would cost one more await per call."""

    def __init__(self, server: grpc.aio.Server, keeper: Doorkeeper):
        self._server, self._keeper = server, keeper

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(tuple(_Guard(handler, self._keeper) for handler in handlers))

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Generated code registers its handlers this way too, but here all go past the doorkeeper."""


class _Guard(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handlers: grpc.GenericRpcHandler, keeper: Doorkeeper):
        self._handlers, self._keeper = handlers, keeper

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        handler = self._handlers.service(details)
        level = level_of(details.method)
        if handler is None or level <= self._keeper.free:
            return handler
        try:
            self._keeper.check(level, _authorization(details.invocation_metadata))
        except QuorateError as error:
            return _refusal(error)
        return handler


def _authorization(metadata: Sequence[tuple[str, str | bytes]] | None) -> str:
    found = [value for name, value in metadata or () if name == "authorization"]
    return str(found[0]) if len(found) == 1 else ""


def _refusal(error: QuorateError) -> grpc.RpcMethodHandler:
    """A handler that ends the call before its first message is read; any kind of call can be answered as a stream."""

    async def refuse(_requests: AsyncIterator[bytes], context: ServicerContext) -> AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode[error.grpc_code], str(error))
        yield b""

    return grpc.stream_stream_rpc_method_handler(refuse)
