"""Every call of stock tritonclient, made from its own environment: its protobuf messages and ours have the same names.

    python stock_client.py HTTP_ADDRESS GRPC_ADDRESS

Prints one JSON object: by call, what came back or {"error": status and text}.
"""

import asyncio
import functools
import inspect
import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from tritonclient.utils import InferenceServerException

ROWS = np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)


def plain(value):
    if isinstance(value, np.ndarray):
        return [v.decode() if isinstance(v, bytes) else v for v in value.ravel().tolist()]
    return value


def tensor(module, binary=True):
    x = module.InferInput("x", [2, 2], "FP32")
    if module in (httpclient, httpaio):
        x.set_data_from_numpy(ROWS, binary_data=binary)
    else:
        x.set_data_from_numpy(ROWS)
    return [x]


def management(client):
    """Name, method and arguments of every call that is no inference."""
    return {
        "live": (client.is_server_live,),
        "ready": (client.is_server_ready,),
        "model ready": (client.is_model_ready, "pair"),
        "model version ready": (client.is_model_ready, "pair", "1"),
        "unknown model ready": (client.is_model_ready, "nobody"),
        "server metadata": (client.get_server_metadata,),
        "model metadata": (client.get_model_metadata, "pair"),
        "unknown model metadata": (client.get_model_metadata, "nobody"),
        "model config": (client.get_model_config, "pair"),
        "statistics": (client.get_inference_statistics, "pair"),
        "all statistics": (client.get_inference_statistics,),
        "index": (client.get_model_repository_index,),
        "version metadata": (client.get_model_metadata, "pair", "1"),
        "unknown version metadata": (client.get_model_metadata, "pair", "7"),
        "unknown model config": (client.get_model_config, "nobody"),
        "load": (client.load_model, "pair"),
        "load with a file": (
            functools.partial(client.load_model, "pair", config="{}", files={"file:1/model.pt": b"00"}),
        ),
        "unload": (client.unload_model, "pair"),
        "update trace": (functools.partial(client.update_trace_settings, settings={"trace_level": ["OFF"]}),),
        "update model trace": (functools.partial(client.update_trace_settings, model_name="pair"),),
        "trace": (client.get_trace_settings,),
        "set trace": (
            functools.partial(client.update_trace_settings, settings={"trace_rate": "50", "trace_count": "7"}),
        ),
        "clear trace": (
            functools.partial(client.update_trace_settings, settings={"trace_rate": None, "trace_count": None}),
        ),
        "update trace file": (functools.partial(client.update_trace_settings, settings={"trace_file": "/f"}),),
        "update log": (client.update_log_settings, {"log_info": True}),
        "update log file": (client.update_log_settings, {"log_file": "/f"}),
        "set log": (client.update_log_settings, {"log_verbose_level": 1, "log_format": "ISO8601", "log_info": False}),
        "update log back": (
            client.update_log_settings,
            {"log_verbose_level": 0, "log_format": "default", "log_info": True},
        ),
        "log": (client.get_log_settings,),
        "system memory": (client.get_system_shared_memory_status,),
        "one system memory": (client.get_system_shared_memory_status, "r"),
        "register system memory": (client.register_system_shared_memory, "r", "/r", 16),
        "unregister system memory": (client.unregister_system_shared_memory,),
        "cuda memory": (client.get_cuda_shared_memory_status,),
        "one cuda memory": (client.get_cuda_shared_memory_status, "r"),
        "register cuda memory": (client.register_cuda_shared_memory, "r", b"aGFuZGxl", 0, 16),
        "unregister cuda memory": (client.unregister_cuda_shared_memory,),
    }


def http_infers(client, module):
    x = tensor(module)
    json_out = [module.InferRequestedOutput("fused", binary_data=False)]
    classes = [module.InferRequestedOutput("fused", binary_data=False, class_count=2)]
    return {
        "infer": (client.infer, "pair", x),
        "infer json": (functools.partial(client.infer, "pair", tensor(module, binary=False), outputs=json_out),),
        "infer gzip": (
            functools.partial(
                client.infer, "pair", x, request_compression_algorithm="gzip", response_compression_algorithm="gzip"
            ),
        ),
        "infer deflate": (
            functools.partial(
                client.infer, "pair", x, request_compression_algorithm="deflate",
                response_compression_algorithm="deflate",
            ),
        ),
        "infer classes": (functools.partial(client.infer, "pair", x, outputs=classes),),
        "infer parameters": (
            functools.partial(
                client.infer, "pair", x, model_version="1", request_id="seven", priority=1, timeout=4_000_000,
                parameters={"members": "b", "note": "ours"},
            ),
        ),
        "infer unknown": (client.infer, "nobody", x),
        "infer unknown output": (
            functools.partial(client.infer, "pair", x, outputs=[module.InferRequestedOutput("nothing")]),
        ),
        "infer late": (functools.partial(client.infer, "pair", x, timeout=1),),
    }  # fmt: skip


def grpc_infers(client, module):
    x = tensor(module)
    classes = [module.InferRequestedOutput("fused", class_count=2)]
    return {
        "infer": (client.infer, "pair", x),
        "infer gzip": (functools.partial(client.infer, "pair", x, compression_algorithm="gzip"),),
        "infer deflate": (functools.partial(client.infer, "pair", x, compression_algorithm="deflate"),),
        "infer classes": (functools.partial(client.infer, "pair", x, outputs=classes),),
        "infer parameters": (
            functools.partial(
                client.infer, "pair", x, model_version="1", request_id="seven", priority=1, timeout=4_000_000,
                client_timeout=10, parameters={"members": "b", "note": "ours"},
            ),
        ),
        "infer unknown": (client.infer, "nobody", x),
        "infer unknown output": (
            functools.partial(client.infer, "pair", x, outputs=[module.InferRequestedOutput("nothing")]),
        ),
        "infer late": (functools.partial(client.infer, "pair", x, timeout=1),),
    }  # fmt: skip


def told(reply):
    if hasattr(reply, "as_numpy"):
        return plain(reply.as_numpy("fused"))
    if hasattr(reply, "DESCRIPTOR"):
        from google.protobuf.json_format import MessageToDict

        return MessageToDict(reply, preserving_proto_field_name=True)
    return reply


async def outcome(call, *arguments):
    try:
        reply = call(*arguments)
        return told(await reply if inspect.isawaitable(reply) else reply)
    except InferenceServerException as error:
        return {"error": f"{error.status()} {error.message()}"}


async def all_of(calls):
    return {name: await outcome(*call) for name, call in calls.items()}


def through_stream(client):
    answers = queue.Queue[Any]()
    client.start_stream(lambda result, error: answers.put(str(error) if error else plain(result.as_numpy("fused"))))
    for model in ("pair", "nobody", "pair"):
        client.async_stream_infer(model, tensor(grpcclient))
    found = [answers.get(timeout=20) for _ in range(3)]
    client.stop_stream()
    return found


def through_callback(client):
    answers = queue.Queue[Any]()
    client.async_infer("pair", tensor(grpcclient), lambda result, error: answers.put(result))
    return plain(answers.get(timeout=20).as_numpy("fused"))


async def through_aio_stream(client):
    async def requests():
        for _ in range(2):
            yield {"model_name": "pair", "inputs": tensor(grpcaio)}

    return [plain(result.as_numpy("fused")) async for result, _ in client.stream_infer(requests())]


async def main(http, grpc):
    found = {}
    client = httpclient.InferenceServerClient(http)
    found["http"] = await all_of({**management(client), **http_infers(client, httpclient)})
    found["http"]["async infer"] = plain(client.async_infer("pair", tensor(httpclient)).get_result().as_numpy("fused"))
    client.close()
    async with httpaio.InferenceServerClient(http) as client:
        found["http aio"] = await all_of({**management(client), **http_infers(client, httpaio)})
    client = grpcclient.InferenceServerClient(grpc)
    found["grpc"] = await all_of({**management(client), **grpc_infers(client, grpcclient)})
    found["grpc"]["stream"] = through_stream(client)
    found["grpc"]["async infer"] = through_callback(client)
    client.close()
    async with grpcaio.InferenceServerClient(grpc) as client:
        found["grpc aio"] = await all_of({**management(client), **grpc_infers(client, grpcaio)})
        found["grpc aio"]["stream"] = await through_aio_stream(client)
    print(json.dumps(found))


asyncio.run(main(*sys.argv[1:]))
