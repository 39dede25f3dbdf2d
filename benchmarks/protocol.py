"""What the wires cost: large tensors over HTTP, small requests over gRPC beside JSON, bulk rows as an Arrow stream.

    python benchmarks/protocol.py [--rounds 5] [--rows 1000000]

Members give back what they get. Beside Quorate runs the least that a Python server can do with the same HTTP body: a
uvicorn application that reads it and sends its bytes back. Rounds visit all ways in turn; ratios are taken within a
round.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import psutil
import pyarrow as pa
import uvicorn

PEERS = Path(__file__).parent / "serving_peers"
sys.path.insert(0, str(PEERS))

from child import free_port, ray_cluster  # noqa: E402

from quorate.deployments import Client  # noqa: E402
from quorate.deployments.control.deploy import Deployed, delete, deploy  # noqa: E402
from quorate.deployments.control.describe import describe_fusion  # noqa: E402
from quorate.deployments.spec.files import parse_spec  # noqa: E402
from quorate.deployments.wire import open_inference_pb2 as pb  # noqa: E402

ROWS, COLUMNS = 1024, 4096  # 16 MiB of FP32
SMALL = 64
BLOCK = 4096  # rows of one record batch, or request
Timed = Callable[[], float]


def deploy_echo(name: str, columns: int, members: int) -> Deployed:
    """An ensemble of members that give back their rows, and the mean of these."""
    member = {"model": "echo:same", "inputs": ["x"], "output": "values", "resources": {"num_cpus": 0.1}}
    spec = parse_spec(
        {
            "name": name,
            "inputs": {"x": {"datatype": "FP32", "shape": [columns]}},
            "members": {f"m{number}": {**member, "max_batch_size": ROWS} for number in range(members)},
            "fusion": {"rule": "mean", "deadline_s": 10.0},
            "serving": {"resources": {"num_cpus": 0.1}},
        }
    )
    return deploy(spec, PEERS)


def start_echo_server() -> str:
    """The peer, on a thread and event loop of its own; returns its URL."""

    async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
        chunks = []
        while True:
            message = await receive()
            chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = b"".join(chunks)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    port = free_port()
    config = uvicorn.Config(echo, port=port, lifespan="off", access_log=False, log_level="warning", interface="asgi3")
    server = uvicorn.Server(config)
    threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return f"http://127.0.0.1:{port}"


def large(url: str, model: str) -> Timed:
    """One 16 MiB tensor there and back, in MB (both ways) a second."""
    rows = np.random.default_rng(0).random((ROWS, COLUMNS), dtype=np.float32)
    client = Client(url)

    def once() -> float:
        started = time.perf_counter()
        (values,) = client.infer(model, {"x": rows}).outputs.values()
        elapsed = time.perf_counter() - started
        assert values.shape == rows.shape
        return 2 * rows.nbytes / 1e6 / elapsed

    return once


def large_echo(url: str) -> Timed:
    body = np.random.default_rng(0).random((ROWS, COLUMNS), dtype=np.float32).tobytes()
    client = httpx.Client()

    def once() -> float:
        started = time.perf_counter()
        assert len(client.post(url, content=body).content) == len(body)
        return 2 * len(body) / 1e6 / (time.perf_counter() - started)

    return once


def p50_ms(call: Callable[[], Any], count: int = 300) -> float:
    for _ in range(20):
        call()
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def small_json(url: str, model: str) -> Timed:
    row = np.random.default_rng(0).random((1, SMALL)).tolist()
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, SMALL], "data": row[0]}
    body = orjson.dumps({"inputs": [tensor]})
    client = httpx.Client(base_url=url)
    return lambda: p50_ms(lambda: client.post(f"/v2/models/{model}/infer", content=body).raise_for_status())


def small_grpc(address: str, model: str) -> Timed:
    channel = grpc.insecure_channel(address)
    infer = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelInferResponse.FromString,
    )
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[1, SMALL])
    request.raw_input_contents.append(np.random.default_rng(0).random((1, SMALL), dtype=np.float32).tobytes())
    return lambda: p50_ms(lambda: infer(request))


def bulk(url: str, model: str, rows: int, process: psutil.Process) -> tuple[Timed, list[float]]:
    """Rows a second of one Arrow stream, and how much the fusion's resident memory rose at most, in MiB."""
    block = np.random.default_rng(0).random((BLOCK, SMALL), dtype=np.float32)
    batch = pa.record_batch({"x": pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), SMALL)})
    client = Client(url, timeout_s=600)
    rose: list[float] = []

    def once() -> float:
        before = peak = process.memory_info().rss
        started, answered = time.perf_counter(), 0
        for answer in client.infer_arrow((batch for _ in range(rows // BLOCK)), model):
            answered += len(answer.batch)
            peak = max(peak, process.memory_info().rss)
        assert answered == rows // BLOCK * BLOCK
        rose.append((peak - before) / 2**20)
        return answered / (time.perf_counter() - started)

    return once, rose


def bulk_binary(url: str, model: str, rows: int) -> Timed:
    """The same rows, in binary HTTP requests one after the other."""
    block = np.random.default_rng(0).random((BLOCK, SMALL), dtype=np.float32)
    client = Client(url)

    def once() -> float:
        started = time.perf_counter()
        for _ in range(rows // BLOCK):
            client.infer(model, x=block)
        return rows / (time.perf_counter() - started)

    return once


def told(values: Sequence[float], unit: str = "") -> str:
    return f"{statistics.median(values):.3g}{unit} ({min(values):.3g} - {max(values):.3g})"


def compare(rounds: int, ways: dict[str, Timed], unit: str) -> None:
    """Run all ways in turn, print each, and each as a ratio to the last of them."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for once in ways.values():
        once()
    for _ in range(rounds):
        for name, once in ways.items():
            found[name].append(once())
    *_, last = found.values()
    for name, values in found.items():
        ratios = [a / b for a, b in zip(values, last, strict=True)]
        print(f"{name:48} {told(values, unit):36} {told(ratios, 'x')}")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--rows", type=int, default=1_000_000, help="of the Arrow stream")
    arguments = options.parse_args()
    with ray_cluster():
        compare_all(arguments.rounds, arguments.rows)


def compare_all(rounds: int, rows: int) -> None:
    one, three = deploy_echo("one", COLUMNS, 1), deploy_echo("three", COLUMNS, 3)
    small = deploy_echo("small", SMALL, 3)
    ways = {
        "one member": large(one.http, "one"),
        "one member, not fused": large(one.http, "m0"),
        "mean of three members": large(three.http, "three"),
        "uvicorn, bytes back": large_echo(start_echo_server()),
    }
    print("16 MiB in and out over HTTP, MB/s both ways together; ratio to the last")
    compare(rounds, ways, " MB/s")
    print("p50 of one row at one client; ratio to the last")
    compare(
        rounds, {"gRPC, raw": small_grpc(small.grpc, "small"), "HTTP, JSON": small_json(small.http, "small")}, " ms"
    )
    process = psutil.Process(describe_fusion("small")[0]["pid"])
    stream, rose = bulk(small.http, "small", rows, process)
    print(f"{rows:,} rows of {SMALL} numbers, mean of three members; ratio to the last")
    ways = {"one Arrow stream": stream, f"requests of {BLOCK} rows": bulk_binary(small.http, "small", rows // 8)}
    compare(rounds, ways, " rows/s")
    print(f"fusion's resident memory rose in a stream by at most {told(rose[1:], ' MiB')}")
    for name in ("one", "three", "small"):
        delete(name)


if __name__ == "__main__":
    main()
