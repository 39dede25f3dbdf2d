"""The gRPC door: ``inference.GRPCInferenceService`` on grpc.aio; it asks the service what the HTTP door asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial, wraps
from time import perf_counter
from typing import Any, TypeVar

import grpc
import grpc.aio
from grpc.aio import ServicerContext

from quorate.deployments.errors import UnavailableError
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.security.certificates import Certificates
from quorate.deployments.security.doors import Doors, at_port
from quorate.deployments.server.error_text import error_text
from quorate.deployments.server.grpc.access import Guarded
from quorate.deployments.server.grpc.health import add_health_and_reflection
from quorate.deployments.server.management import Management
from quorate.deployments.server.service import Service
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.grpc_tensors import dump_response, parse_infer, parse_parameters
from quorate.fusion.errors import QuorateError

Message = TypeVar("Message")
Reply = TypeVar("Reply")
Method = Callable[[Any, ServicerContext], Awaitable[Any]]

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
# Requests of one stream that run at once; the next is read when the first of them is answered.
STREAM_AHEAD = 64
# Kept of a client's deadline for the answer's way back.
TRAVEL_S = 0.02
HANDSHAKE_TIMEOUT_MS, KEEPALIVE_MS = 10_000, 30_000
# A message is held as protobuf has it and as tensors.
MESSAGE_COPIES = 2
# Of one connection; calls that the server has begun, of all; and what comes of a header before it ends.
MAX_STREAMS, MAX_CALLS, MAX_METADATA_BYTES = 256, 4096, 64 << 10


class GrpcDoor:
    """Serves one ensemble. Every public method is the RPC of its name."""

    def __init__(self, service: Service):
        self._service, self._management = service, Management(service)

    async def ServerLive(self, _request: pb.ServerLiveRequest, _context: ServicerContext) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _request: pb.ServerReadyRequest, _context: ServicerContext) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._service.ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, _context: ServicerContext) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self._service.model_ready(request.name, request.version))

    async def ServerMetadata(
        self, _request: pb.ServerMetadataRequest, _context: ServicerContext
    ) -> pb.ServerMetadataResponse:
        found = self._service.server_metadata()
        return pb.ServerMetadataResponse(name=found["name"], version=found["version"], extensions=found["extensions"])

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, _context: ServicerContext
    ) -> pb.ModelMetadataResponse:
        return pb.ModelMetadataResponse(**self._service.model_metadata(request.name, request.version))

    async def ModelInfer(self, request: pb.ModelInferRequest, context: ServicerContext) -> pb.ModelInferResponse:
        return await self._infer(request, context.time_remaining())

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: ServicerContext
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Answer a stream of requests in their order; up to STREAM_AHEAD of them run at once."""
        running: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | None] = asyncio.Queue(STREAM_AHEAD)

        async def read() -> None:
            try:
                async for request in requests:
                    await running.put(asyncio.ensure_future(self._stream_infer(request, context.time_remaining())))
            except Exception:  # bytes that are no request
                await running.put(None)
                raise
            await running.put(None)

        reader = asyncio.ensure_future(read())
        task = None
        try:
            while (task := await running.get()) is not None:
                yield await task
            await reader  # raises what ended the stream before its time
        finally:  # the client is gone, or all is said
            reader.cancel()
            while task is not None:
                task.cancel()
                task = None if running.empty() else running.get_nowait()

    async def ModelConfig(self, request: pb.ModelConfigRequest, _context: ServicerContext) -> pb.ModelConfigResponse:
        return pb.ModelConfigResponse(config=self._management.config(request.name, request.version))

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, _context: ServicerContext
    ) -> pb.ModelStatisticsResponse:
        return pb.ModelStatisticsResponse(**self._management.statistics(request.name, request.version))

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, _context: ServicerContext
    ) -> pb.RepositoryIndexResponse:
        return pb.RepositoryIndexResponse(models=self._management.index(request.ready))

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, _context: ServicerContext
    ) -> pb.RepositoryModelLoadResponse:
        await self._management.load(request.model_name, parse_parameters(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, _request: pb.RepositoryModelUnloadRequest, _context: ServicerContext
    ) -> pb.RepositoryModelUnloadResponse:
        self._management.unload()

    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, _context: ServicerContext
    ) -> pb.SystemSharedMemoryStatusResponse:
        self._management.check_region("system", request.name)
        return pb.SystemSharedMemoryStatusResponse()

    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, _context: ServicerContext
    ) -> pb.SystemSharedMemoryRegisterResponse:
        self._management.register_shared_memory("system", request.name)

    async def SystemSharedMemoryUnregister(
        self, _request: pb.SystemSharedMemoryUnregisterRequest, _context: ServicerContext
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        self._management.unregister_shared_memory()
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, _context: ServicerContext
    ) -> pb.CudaSharedMemoryStatusResponse:
        self._management.check_region("cuda", request.name)
        return pb.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, _context: ServicerContext
    ) -> pb.CudaSharedMemoryRegisterResponse:
        self._management.register_shared_memory("cuda", request.name)

    async def CudaSharedMemoryUnregister(
        self, _request: pb.CudaSharedMemoryUnregisterRequest, _context: ServicerContext
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        self._management.unregister_shared_memory()
        return pb.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(
        self, _request: pb.TraceSettingRequest, _context: ServicerContext
    ) -> pb.TraceSettingResponse:
        self._management.trace()

    async def LogSettings(self, _request: pb.LogSettingsRequest, _context: ServicerContext) -> pb.LogSettingsResponse:
        self._management.logging()

    async def _infer(self, message: pb.ModelInferRequest, deadline_s: float | None) -> pb.ModelInferResponse:
        started, service, size = perf_counter(), self._service, message.ByteSize()
        with service.budget.hold() as hold:
            hold.add(MESSAGE_COPIES * size)
            with service.reading():
                request = await service.heavy.run(size, partial(parse_infer, message, _in_time(deadline_s)))
            parsed = perf_counter()
            # grpc.aio cancels this coroutine when the client cancels or its deadline passes; the engine sees it here.
            response = await service.infer(request, hold)
            fused, size = perf_counter(), sum(array.nbytes for array in response.outputs.values())
            hold.add(MESSAGE_COPIES * size)
            reply = await service.heavy.run(size, partial(dump_response, response))
        self._service.carried(request.model, parsed - started, perf_counter() - fused)
        return reply

    async def _stream_infer(
        self, message: pb.ModelInferRequest, deadline_s: float | None
    ) -> pb.ModelStreamInferResponse:
        """One answer of a stream: an error ends only its own request."""
        try:
            reply = await self._infer(message, deadline_s)
        except Exception as error:
            _, text = _code_and_text(error)
            reply = pb.ModelInferResponse(model_name=message.model_name, id=message.id)
            return pb.ModelStreamInferResponse(error_message=text, infer_response=reply)
        reply.parameters["triton_final_response"].bool_param = True  # one request, one response
        return pb.ModelStreamInferResponse(infer_response=reply)


def _in_time(deadline_s: float | None) -> float | None:
    """When to answer a client that waits this long: a little earlier, since what is late is lost."""
    return None if deadline_s is None else max(deadline_s - min(0.1 * deadline_s, TRAVEL_S), 0.0)


def _code_and_text(error: Exception) -> tuple[grpc.StatusCode, str]:
    code = error.grpc_code if isinstance(error, QuorateError) else "INTERNAL"
    return grpc.StatusCode[code], error_text(error)


def _with_status(method: Callable[[Message, ServicerContext], Awaitable[Reply]]) -> Method:
    """End a failed call with the error's own code and sentence."""

    @wraps(method)
    async def call(request: Message, context: ServicerContext) -> Reply:
        try:
            return await method(request, context)
        except Exception as error:
            await context.abort(*_code_and_text(error))
        raise AssertionError("abort raises")

    return call


def _handlers(door: GrpcDoor) -> grpc.GenericRpcHandler:
    """Bind the service's methods by name: what ``open_inference_pb2_grpc`` would hold."""
    handlers = {}
    for method in SERVICE.methods:
        ends = {
            "request_deserializer": getattr(pb, method.input_type.name).FromString,
            "response_serializer": getattr(pb, method.output_type.name).SerializeToString,
        }
        call = getattr(door, method.name)
        if method.name == "ModelStreamInfer":
            handlers[method.name] = grpc.stream_stream_rpc_method_handler(call, **ends)
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(_with_status(call), **ends)
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


def _most_message_bytes(service: Service) -> int:
    """gRPC holds a whole message before anyone can count it, so none may be longer than some model can need."""
    return max(service.most_body_bytes(model) for model in service.models)


def grpc_server(
    service: Service, host: str, port: int, keeper: Doorkeeper | None = None, certificates: Certificates | None = None
) -> tuple[grpc.aio.Server, int]:
    """A server that is bound but not started, and its port; ``port`` 0 takes a free one.

    Raises:
        UnavailableError: the port cannot be had.
    """
    options = [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", _most_message_bytes(service)),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_send_message_length", -1),  # an answer is no larger than what was asked for
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS),
        # A client that is gone without closing its connection is noticed, and its streams end.
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
    guarded = Guarded(server, keeper or Doorkeeper(Doors()))
    guarded.add_generic_rpc_handlers((_handlers(GrpcDoor(service)),))
    add_health_and_reflection(guarded, service, SERVICE.full_name)
    address = at_port(host, port)
    try:
        if certificates is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, certificates.for_grpc())
    except RuntimeError:
        raise UnavailableError(f"gRPC cannot listen on {address}; choose another port") from None
    return server, bound
