"""All models inside one uvicorn process: what a script without any fault tolerance or scaling can do.

Beside it, on the same event loop, the same over gRPC (grpc.aio).
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import torch
import uvicorn
import uvloop
from bodies import GRPC_INFER, HEAD_LENGTH, read_body, write_answer
from child import asked, free_port, serve_until_told
from mlp import build, mean

from quorate.deployments.wire import open_inference_pb2 as pb

_LENGTH = HEAD_LENGTH.encode()


def make_app(models: list[torch.nn.Module]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        length = next((int(value) for name, value in scope["headers"] if name == _LENGTH), None)
        reply, headers = write_answer(mean(models, read_body(body, length)), binary=length is not None)
        told = [(name.encode(), value.encode()) for name, value in headers.items()]
        told.append((b"content-length", str(len(reply)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": told})
        await send({"type": "http.response.body", "body": reply})

    return app


def make_grpc(models: list[torch.nn.Module]) -> Any:
    async def infer(request: Any, context: Any) -> Any:
        (data,), (tensor,) = request.raw_input_contents, request.inputs
        values = mean(models, np.frombuffer(data, np.float32).reshape(tensor.shape))
        reply = pb.ModelInferResponse(model_name=request.model_name, model_version="1")
        reply.outputs.add(name="fused", datatype="FP32", shape=values.shape)
        reply.raw_output_contents.append(values.tobytes())
        return reply

    handler = grpc.unary_unary_rpc_method_handler(
        infer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    )
    _, service, method = GRPC_INFER.split("/")
    return grpc.method_handlers_generic_handler(service, {method: handler})


async def main() -> None:
    arguments = asked()
    models = [build(seed, arguments.features) for seed in range(arguments.members)]
    port = free_port()
    config = uvicorn.Config(
        make_app(models), port=port, http="httptools", loop="uvloop", interface="asgi3", lifespan="off",
        access_log=False, log_level="warning",
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    calls = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    calls.add_generic_rpc_handlers((make_grpc(models),))
    grpc_port = calls.add_insecure_port("127.0.0.1:0")
    await calls.start()
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    await asyncio.to_thread(serve_until_told, f"http://127.0.0.1:{port}", grpc=f"127.0.0.1:{grpc_port}")
    await calls.stop(None)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    torch.set_num_threads(1)
    uvloop.run(main())
