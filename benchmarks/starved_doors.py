"""Whether both doors answer while the machine is starved: open-loop load over HTTP and gRPC at once, beside busy loops.

    python benchmarks/starved_doors.py [--hogs 0 8 16] [--turn-ms 0 2 5 10] [--seconds 20] [--rate 100]
    python benchmarks/starved_doors.py --clients 1 16 64

The server runs at --niceness, 15 as Ray's workers do unless told otherwise, and the busy loops at 0. Each door has a
client process of its own, at niceness -10 where that is allowed: what is late then is late in the server. A request's
id is the time at which it was due, on the clock that all processes of a machine share, so the server itself says how
long a request was on its way to the handler. Beside the two doors runs the least that grpc.aio can do: a handler that
gives back its message. With --turn-ms it is not the machine that is starved, but the server's event loop, which all
three share: each of its turns takes so long, as where a fusion has more to do than its share of the machine allows.
With --clients nothing is starved: each door in turn is asked by so many clients who ask again when they are answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np

from quorate.deployments.wire import open_inference_pb2 as pb

if TYPE_CHECKING:
    from quorate.deployments.server.fusion_server import FusionServer

PEERS = Path(__file__).parent / "serving_peers"
DEADLINE_S, COLUMNS = 1.0, 8
CLIENT_NICENESS = -10
RPC = "/inference.GRPCInferenceService/ModelInfer"
DOORS = ("http", "grpc", "grpc.aio")
Ask = Callable[[float], Awaitable[bool]]


def serve(niceness: int, turn_s: float) -> None:
    """One process: the ensemble behind both doors, and the peer; prints the addresses, then what it measured."""
    os.nice(niceness)
    from quorate.deployments.server.service import Service

    waits: dict[str, list[float]] = {door: [] for door in DOORS}
    infer = Service.infer

    async def measured(service: Service, request: Any, *rest: Any) -> Any:
        door, due = request.id.split()
        waits[door].append(time.monotonic() - float(due))
        return await infer(service, request, *rest)

    Service.infer = measured  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        server = start_ensemble(Path(folder))
        peer = asyncio.run_coroutine_threadsafe(start_peer(waits["grpc.aio"]), server._loop).result()
        if turn_s:
            asyncio.run_coroutine_threadsafe(keep_busy(turn_s), server._loop)
        addresses = {"http": server.http_port, "grpc": server.grpc_port, "grpc.aio": peer}
        print(json.dumps(addresses), flush=True)
        for _ in sys.stdin:  # a line asks for what was measured since the last one
            print(json.dumps(waits), flush=True)
            for found in waits.values():
                found.clear()
        server.stop()
    os._exit(0)


def start_ensemble(folder: Path) -> FusionServer:
    # Here, and not above, so that the clients are quick to start on a starved machine.
    from quorate.deployments.engine.engine import Engine
    from quorate.deployments.members.inference_loop import InferenceLoop
    from quorate.deployments.members.member_group import MemberGroup
    from quorate.deployments.members.predictor import Predictor
    from quorate.deployments.routing.replica import Address
    from quorate.deployments.security.access import Doorkeeper
    from quorate.deployments.security.doors import Doors
    from quorate.deployments.server.fusion_server import FusionServer, Served, ServerSettings
    from quorate.deployments.sources.loading import load_model
    from quorate.deployments.spec.files import parse_spec
    from quorate.deployments.transport.unix import UnixListener

    member = {"model": "echo:same", "inputs": ["x"], "output": "values"}
    spec = parse_spec(
        {
            "name": "echo",
            "inputs": {"x": {"datatype": "FP32", "shape": [COLUMNS]}},
            "members": {"m": member},
            "fusion": {"rule": "mean", "deadline_s": DEADLINE_S},
        }
    )
    predictor = Predictor(load_model("m", spec.members["m"], PEERS), spec.job("m"))
    predictor.warm_up()
    InferenceLoop(MemberGroup([predictor]), [UnixListener(folder / "m")]).start()
    dims = predictor.dims
    address = Address("m0", "here", str(folder / "m"), datatype=predictor.datatype, dims=dims)

    def find_member(_app: str, on_replicas: Callable[[dict[str, Address]], None]) -> Callable[[], None]:
        on_replicas({"m0": address})
        return lambda: None

    server = FusionServer(
        ServerSettings("127.0.0.1", 0, 0, Doorkeeper(Doors())),
        lambda served: Engine(served.spec, served.folder, "here", apps=served.apps),
        find_member,
    )
    server.start(Served(spec, PEERS, {"m": "m"}))
    return server


async def start_peer(waits: list[float]) -> int:
    """grpc.aio as it comes; returns its port."""

    async def echo(message: pb.ModelInferRequest, _context: Any) -> pb.ModelInferResponse:
        waits.append(time.monotonic() - float(message.id.split()[1]))
        return pb.ModelInferResponse(model_name="echo", id=message.id)

    ends = {
        "request_deserializer": pb.ModelInferRequest.FromString,
        "response_serializer": pb.ModelInferResponse.SerializeToString,
    }
    handler = grpc.unary_unary_rpc_method_handler(echo, **ends)
    server = grpc.aio.server()
    service, method = RPC.strip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    asyncio.get_running_loop().peer = server  # type: ignore[attr-defined]  # kept alive
    return int(port)


async def keep_busy(turn_s: float) -> None:
    while True:
        until = time.monotonic() + turn_s
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0)


def client(door: str, port: int, rate: float, seconds: float) -> None:
    """Ask at fixed times whatever has become of the questions before; prints how each ended, in s after it was due."""
    try:
        os.nice(CLIENT_NICENESS)
    except PermissionError:
        print("the clients run at niceness 0: their own waiting counts too", file=sys.stderr)
    loop = open_loop(door, port, rate, seconds) if rate > 0 else closed_loop(door, port, round(-rate), seconds)
    print(json.dumps(asyncio.run(loop)))


async def open_loop(door: str, port: int, rate: float, seconds: float) -> list[float | None]:
    ask = http_asker(port) if door == "http" else grpc_asker(door, port)
    await ask(time.monotonic())  # the first one of a process imports and connects
    print("ready", flush=True)
    ended: list[float | None] = []

    async def once(due: float) -> None:
        try:
            good = await asyncio.wait_for(ask(due), DEADLINE_S + 1)
        except (asyncio.TimeoutError, OSError, grpc.RpcError, asyncio.IncompleteReadError):
            good = False
        ended.append(time.monotonic() - due if good else None)

    started, tasks = time.monotonic() + 1, []
    for number in range(int(rate * seconds)):
        due = started + number / rate
        await asyncio.sleep(max(due - time.monotonic(), 0))
        tasks.append(asyncio.ensure_future(once(due)))
    await asyncio.gather(*tasks)
    return ended


async def closed_loop(door: str, port: int, clients: int, seconds: float) -> list[float]:
    ask = http_asker(port) if door == "http" else grpc_asker(door, port)
    took: list[float] = []

    async def one(until: float) -> None:
        while (started := time.monotonic()) < until:
            await ask(started)
            took.append(time.monotonic() - started)

    for lasts in (0.5, seconds):  # the first is to warm up
        took.clear()
        until = time.monotonic() + lasts
        await asyncio.gather(*(one(until) for _ in range(clients)))
    return took


def http_asker(port: int) -> Ask:
    """Keep-alive connections, as many as it takes."""
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, COLUMNS], "data": [0.5] * COLUMNS}

    async def ask(due: float) -> bool:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"id": f"http {due!r}", "inputs": [tensor]}).encode()
        head = f"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        idle.append((reader, writer))
        return answer.startswith(b"HTTP/1.1 200")

    return ask


def grpc_asker(door: str, port: int) -> Ask:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    infer = channel.unary_unary(RPC, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    raw = np.full(COLUMNS, 0.5, np.float32).tobytes()

    async def ask(due: float) -> bool:
        request = pb.ModelInferRequest(model_name="echo", id=f"{door} {due!r}", raw_input_contents=[raw])
        request.inputs.add(name="x", datatype="FP32", shape=[1, COLUMNS])
        await infer(request)
        return True

    return ask


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def quantiles(values: list[float]) -> str:
    if not values:
        return "-"
    p50, p90, p99 = np.quantile(values, [0.5, 0.9, 0.99]) * 1e3
    return f"{p50:.0f} / {p90:.0f} / {p99:.0f}"


def measure(hogs: int, turn_ms: float, niceness: int, rate: float, seconds: float) -> None:
    server = start("--serve", niceness, turn_ms / 1e3)
    assert server.stdin is not None
    assert server.stdout is not None
    ports = json.loads(server.stdout.readline())
    clients = {door: start("--client", door, ports[door], rate, seconds) for door in DOORS}
    for process in clients.values():
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(hogs)]
    try:
        ended = {door: json.loads(process.communicate()[0]) for door, process in clients.items()}
    finally:
        for hog in busy:
            hog.kill()
            hog.wait()
    server.stdin.write("\n")
    server.stdin.flush()
    waits = json.loads(server.stdout.readline())
    server.stdin.close()
    server.wait()
    for door in DOORS:
        good = [latency for latency in ended[door] if latency is not None]
        in_time = sum(latency <= DEADLINE_S for latency in good) / len(ended[door])
        print(
            f"{hogs:5} {turn_ms:7g} {door:9} {in_time:8.1%}   {quantiles(good):22} {quantiles(waits[door])}", flush=True
        )


def measure_clients(clients: int, seconds: float, rounds: int) -> None:
    server = start("--serve", 0, 0.0)
    assert server.stdin is not None
    assert server.stdout is not None
    ports = json.loads(server.stdout.readline())
    found: dict[str, list[list[float]]] = {door: [] for door in DOORS}
    for _ in range(rounds):
        for door in DOORS:
            asking = start("--client", door, ports[door], -clients, seconds)
            found[door].append(json.loads(asking.communicate()[0]))
    server.stdin.close()
    server.wait()
    for door, runs in found.items():
        rates = [len(took) / seconds for took in runs]
        spread = f"{np.median(rates):.0f} ({min(rates):.0f} - {max(rates):.0f})"
        print(f"{clients:7} {door:9} {spread:22} {quantiles([took for run in runs for took in run])}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--hogs", type=int, nargs="+", default=[0, 8, 16])
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--rate", type=float, default=100.0, help="requests a second at each door")
    options.add_argument("--niceness", type=int, default=15, help="of the server")
    options.add_argument("--turn-ms", type=float, nargs="+", default=[0.0], help="what each turn of its loop takes")
    options.add_argument("--clients", type=int, nargs="+", help="each asks again when it is answered")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.serve is not None:
        serve(int(arguments.serve[0]), float(arguments.serve[1]))
        return
    if arguments.client:
        door, port, rate, seconds = arguments.client
        client(door, int(port), float(rate), float(seconds))
        return
    if arguments.clients:
        print(f"{os.cpu_count()} CPUs\nclients door      calls/s                ms p50/p90/p99")
        for clients in arguments.clients:
            measure_clients(clients, arguments.seconds, arguments.rounds)
        return
    print(
        f"{os.cpu_count()} CPUs, {arguments.rate:g} requests/s at each door, deadline {DEADLINE_S:g} s; ms p50/p90/p99"
    )
    print(f"{'hogs':>5} {'turn ms':>7} {'door':9} {'in time':>8}   {'answered after':22} at the handler after")
    for hogs in arguments.hogs:
        for turn_ms in arguments.turn_ms:
            measure(hogs, turn_ms, arguments.niceness, arguments.rate, arguments.seconds)


if __name__ == "__main__":
    main()
