"""The RPCs of ``inference.GRPCInferenceService``: they ask the service what the HTTP door asks it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, cast

from quorate.deployments.server.error_text import error_text
from quorate.deployments.server.grpc.access import level_of
from quorate.deployments.server.grpc.call import Call, Method
from quorate.deployments.server.grpc.headers import STATUSES
from quorate.deployments.server.management import Management
from quorate.deployments.server.service import Service
from quorate.deployments.server.tracing import answer_headers, begin_grpc, ended, failed
from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.grpc_tensors import dump_metadata, dump_response, parse_infer, parse_parameters
from quorate.fusion.errors import QuorateError

Unary = Callable[[Any, Call], Awaitable[Any]]
Stream = Callable[[AsyncIterator[Any], Call], AsyncGenerator[Any, None]]

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
# Requests of one stream that run at once; the next is read when the first of them is answered.
STREAM_AHEAD = 64
# Kept of a client's deadline for the answer's way back.
TRAVEL_S = 0.02
# A message is held as protobuf has it and as tensors.
MESSAGE_COPIES = 2


class InferenceRpcs:
    """Every public method is the RPC of its name."""

    def __init__(self, service: Service):
        self._service, self._management = service, Management(service)

    async def ServerLive(self, _request: pb.ServerLiveRequest, _call: Call) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _request: pb.ServerReadyRequest, _call: Call) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._service.ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, _call: Call) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self._service.model_ready(request.name, request.version))

    async def ServerMetadata(self, _request: pb.ServerMetadataRequest, _call: Call) -> pb.ServerMetadataResponse:
        found = self._service.server_metadata()
        return pb.ServerMetadataResponse(name=found["name"], version=found["version"], extensions=found["extensions"])

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, _call: Call) -> pb.ModelMetadataResponse:
        return dump_metadata(self._service.model_metadata(request.name, request.version))

    async def ModelInfer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        trace = begin_grpc(self._service.engine.tracer, request.model_name, call.given, "ModelInfer")
        if trace is not None:
            call.answer_headers = answer_headers(trace)
        return await self._infer(request, call.time_remaining(), trace)

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], call: Call
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """Answer a stream of requests in their order; up to STREAM_AHEAD of them run at once."""
        running: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | None] = asyncio.Queue(STREAM_AHEAD)

        async def read() -> None:
            try:
                async for request in requests:
                    await running.put(asyncio.ensure_future(self._stream_infer(request, call)))
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

    async def ModelConfig(self, request: pb.ModelConfigRequest, _call: Call) -> pb.ModelConfigResponse:
        return pb.ModelConfigResponse(config=self._management.config(request.name, request.version))

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, _call: Call) -> pb.ModelStatisticsResponse:
        return pb.ModelStatisticsResponse(**self._management.statistics(request.name, request.version))

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, _call: Call) -> pb.RepositoryIndexResponse:
        return pb.RepositoryIndexResponse(models=self._management.index(request.ready))

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, _call: Call
    ) -> pb.RepositoryModelLoadResponse:
        await self._management.load(request.model_name, parse_parameters(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, _request: pb.RepositoryModelUnloadRequest, _call: Call
    ) -> pb.RepositoryModelUnloadResponse:
        self._management.unload()

    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, _call: Call
    ) -> pb.SystemSharedMemoryStatusResponse:
        self._management.check_region("system", request.name)
        return pb.SystemSharedMemoryStatusResponse()

    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, _call: Call
    ) -> pb.SystemSharedMemoryRegisterResponse:
        self._management.register_shared_memory("system", request.name)

    async def SystemSharedMemoryUnregister(
        self, _request: pb.SystemSharedMemoryUnregisterRequest, _call: Call
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        self._management.unregister_shared_memory()
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, _call: Call
    ) -> pb.CudaSharedMemoryStatusResponse:
        self._management.check_region("cuda", request.name)
        return pb.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, _call: Call
    ) -> pb.CudaSharedMemoryRegisterResponse:
        self._management.register_shared_memory("cuda", request.name)

    async def CudaSharedMemoryUnregister(
        self, _request: pb.CudaSharedMemoryUnregisterRequest, _call: Call
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        self._management.unregister_shared_memory()
        return pb.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(self, request: pb.TraceSettingRequest, _call: Call) -> pb.TraceSettingResponse:
        given = {name: list(setting.value) or None for name, setting in request.settings.items()}
        found = await self._management.trace(request.model_name, given)
        reply = pb.TraceSettingResponse()
        for name, value in found.items():
            reply.settings[name].value.extend([value] if isinstance(value, str) else value)
        return reply

    async def LogSettings(self, request: pb.LogSettingsRequest, _call: Call) -> pb.LogSettingsResponse:
        given = {name: _log_setting(setting) for name, setting in request.settings.items()}
        reply = pb.LogSettingsResponse()
        for name, value in (await self._management.logging(given)).items():
            kind = "bool_param" if isinstance(value, bool) else "uint32_param" if isinstance(value, int) else None
            setattr(reply.settings[name], kind or "string_param", value)
        return reply

    async def _infer(
        self, message: pb.ModelInferRequest, deadline_s: float | None, trace: RequestTrace | None
    ) -> pb.ModelInferResponse:
        if trace is None:
            return await self._answered(message, deadline_s, None)
        status = "CANCELLED"
        try:
            reply, status = await self._answered(message, deadline_s, trace), "OK"
            return reply
        except Exception as error:
            failed(trace, error)
            status = error.grpc_code if isinstance(error, QuorateError) else "INTERNAL"
            raise
        finally:
            ended(trace, {"rpc.grpc.status_code": STATUSES.index(status)})

    async def _answered(
        self, message: pb.ModelInferRequest, deadline_s: float | None, trace: RequestTrace | None
    ) -> pb.ModelInferResponse:
        started, service, size = perf_counter(), self._service, message.ByteSize()
        with service.budget.hold() as hold:
            hold.add(MESSAGE_COPIES * size)
            with service.reading():
                request = await service.heavy.run(size, partial(parse_infer, message, _in_time(deadline_s)))
            parsed = perf_counter()
            request.trace = trace
            # This coroutine is cancelled when the client cancels or its deadline passes; the engine sees it here.
            response = await service.infer(request, hold)
            fused, size = perf_counter(), sum(array.nbytes for array in response.outputs.values())
            hold.add(MESSAGE_COPIES * size)
            reply = await service.heavy.run(size, partial(dump_response, response))
        self._service.carried(request.model, parsed - started, perf_counter() - fused)
        return reply

    async def _stream_infer(self, message: pb.ModelInferRequest, call: Call) -> pb.ModelStreamInferResponse:
        """One answer of a stream: an error ends only its own request."""
        trace = begin_grpc(self._service.engine.tracer, message.model_name, call.given, "ModelStreamInfer")
        try:
            reply = await self._infer(message, call.time_remaining(), trace)
        except Exception as error:
            reply = pb.ModelInferResponse(model_name=message.model_name, id=message.id)
            return pb.ModelStreamInferResponse(error_message=error_text(error), infer_response=reply)
        reply.parameters["triton_final_response"].bool_param = True  # one request, one response
        return pb.ModelStreamInferResponse(infer_response=reply)


def _log_setting(setting: pb.LogSettingsRequest.SettingValue) -> bool | int | str | None:
    kind = setting.WhichOneof("parameter_choice")
    return None if kind is None else cast("bool | int | str", getattr(setting, kind))


def _in_time(deadline_s: float | None) -> float | None:
    """When to answer a client that waits this long: a little earlier, since what is late is lost."""
    return None if deadline_s is None else max(deadline_s - min(0.1 * deadline_s, TRAVEL_S), 0.0)


def unary(method: Unary) -> Callable[[Call], Awaitable[None]]:
    """How a call is answered by one message for one."""

    async def answer(call: Call) -> None:
        await call.send(await method(await call.request(), call))

    return answer


def stream(method: Stream) -> Callable[[Call], Awaitable[None]]:
    """How a call is answered by as many messages as there are for as many."""

    async def answer(call: Call) -> None:
        async with contextlib.aclosing(method(call.requests(), call)) as replies:
            async for reply in replies:
                await call.send(reply)

    return answer


def inference_methods(service: Service) -> dict[bytes, Method]:
    """All RPCs of the service, by path."""
    rpcs, found = InferenceRpcs(service), {}
    for rpc in SERVICE.methods:
        path, method = f"/{SERVICE.full_name}/{rpc.name}", getattr(rpcs, rpc.name)
        streams = rpc.name == "ModelStreamInfer"
        answer = stream(method) if streams else unary(method)
        found[path.encode()] = Method(answer, getattr(pb, rpc.input_type.name), level_of(path), streams)
    return found
