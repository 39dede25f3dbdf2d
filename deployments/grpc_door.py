"""The gRPC door: ``inference.GRPCInferenceService`` on grpc.aio; it asks the service what the HTTP door asks it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeVar

import grpc
import grpc.aio
from grpc.aio import ServicerContext

from quorate.deployments import open_inference_pb2 as pb
from quorate.deployments.grpc_tensors import dump_response, parse_infer
from quorate.deployments.service import MAX_BODY_BYTES, Service, clip
from quorate.fusion.errors import QuorateError, RequestError, UnavailableError

Message = TypeVar("Message")
Reply = TypeVar("Reply")
Method = Callable[[Any, ServicerContext], Awaitable[Any]]

_log = logging.getLogger(__name__)
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class GrpcDoor:
    """Serves one ensemble. Every public method is the RPC of its name."""

    def __init__(self, service: Service):
        self._service = service

    async def ServerLive(self, _request: pb.ServerLiveRequest, _context: ServicerContext) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _request: pb.ServerReadyRequest, _context: ServicerContext) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._service.ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, _context: ServicerContext) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self._service.model_ready(request.name, request.version))

    async def ServerMetadata(
        self, _request: pb.ServerMetadataRequest, _context: ServicerContext
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**self._service.server_metadata())

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, _context: ServicerContext
    ) -> pb.ModelMetadataResponse:
        return pb.ModelMetadataResponse(**self._service.model_metadata(request.name, request.version))

    async def ModelInfer(self, request: pb.ModelInferRequest, context: ServicerContext) -> pb.ModelInferResponse:
        metrics = self._service.engine.metrics
        started = perf_counter()
        try:
            parsed = parse_infer(request, context.time_remaining())
        except RequestError:
            metrics.answered("invalid")
            raise
        asked = perf_counter()
        # grpc.aio cancels this coroutine when the client cancels or its deadline passes; the engine sees it here.
        response = await self._service.infer(parsed)
        fused = perf_counter()
        reply = dump_response(response)
        metrics.door(asked - started + perf_counter() - fused)
        return reply


def _in_words_of_the_wire(method: Callable[[Message, ServicerContext], Awaitable[Reply]]) -> Method:
    """End a failed call with the error's own code and sentence."""

    @functools.wraps(method)
    async def call(request: Message, context: ServicerContext) -> Reply:
        try:
            return await method(request, context)
        except QuorateError as error:
            code, text = grpc.StatusCode[error.grpc_code], clip(str(error))
        except Exception:
            _log.exception("a request failed")
            code, text = grpc.StatusCode.INTERNAL, "internal error; the server log has the details"
        await context.abort(code, text)
        raise AssertionError("abort raises")

    return call


def _handlers(door: GrpcDoor) -> grpc.GenericRpcHandler:
    """Bind the service's methods by name: what ``open_inference_pb2_grpc`` would hold."""
    handlers = {
        method.name: grpc.unary_unary_rpc_method_handler(
            _in_words_of_the_wire(getattr(door, method.name)),
            request_deserializer=getattr(pb, method.input_type.name).FromString,
            response_serializer=getattr(pb, method.output_type.name).SerializeToString,
        )
        for method in SERVICE.methods
    }
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


def grpc_server(service: Service, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """A server that is bound but not started, and its port; ``port`` 0 takes a free one.

    Raises:
        UnavailableError: the port cannot be had.
    """
    options = [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", MAX_BODY_BYTES),
        ("grpc.max_send_message_length", -1),  # an answer is no larger than what was asked for
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((_handlers(GrpcDoor(service)),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        raise UnavailableError(f"gRPC cannot listen on {address}; choose another port") from None
    return server, bound
