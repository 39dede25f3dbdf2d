"""Asks a running ensemble with the stock tritonclient and prints what it got; runs in an environment of its own.

python stock_client.py http|aio|grpc HOST:PORT
"""

import asyncio
import importlib
import json
import sys

import numpy as np

ROWS = np.array([[1, 2], [0.5, -1], [-2, 1]], dtype=np.float32)


async def result(value):
    """What a call of the plain or of the asyncio client gives."""
    return await value if asyncio.iscoroutine(value) else value


async def ask(wire, address):
    client = importlib.import_module(
        {"http": "tritonclient.http", "aio": "tritonclient.http.aio"}.get(wire, "tritonclient.grpc")
    )
    server = client.InferenceServerClient(address)
    tensor, output = client.InferInput("x", [3, 2], "FP32"), client.InferRequestedOutput("fused")
    tensor.set_data_from_numpy(ROWS)
    best = client.InferRequestedOutput("fused", class_count=2)
    pack = (
        {"compression_algorithm": "gzip"}
        if wire == "grpc"
        else {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
    )
    got = {
        "live": await result(server.is_server_live()),
        "ready": await result(server.is_server_ready()),
        "model_ready": await result(server.is_model_ready("pair")),
        "unknown_ready": await result(server.is_model_ready("nobody")),
    }
    got["infer"] = (await result(server.infer("pair", [tensor], outputs=[output]))).as_numpy("fused").tolist()
    got["packed"] = (await result(server.infer("pair", [tensor], outputs=[output], **pack))).as_numpy("fused").tolist()
    classes = (await result(server.infer("pair", [tensor], outputs=[best]))).as_numpy("fused")
    got["classes"] = [[item.decode() for item in row] for row in classes]
    try:
        await result(server.infer("nobody", [tensor]))
    except Exception as error:
        got["unknown"] = [type(error).__name__, str(error)]
    await result(server.close())
    return got


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(*sys.argv[1:]))))
