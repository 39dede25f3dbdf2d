"""How late gRPC calls reach their handler when every turn of the server's event loop takes a while.

    python benchmarks/busy_loop_grpc.py [--turns-ms 0 2 5 10] [--rate 100] [--seconds 6]

A server answers with what it was sent, and keeps its event loop busy for so long in every turn, as a fusion does that
has more to do than its share of the machine allows. Once it is grpc.aio, once grpclib (HTTP/2 in Python on the same
loop; ``pip install grpclib`` beside Quorate, else it is left out). The client is grpc.aio at fixed times, whatever has
become of the calls before; in time means within a second of when it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import uvloop

SERVICE, METHOD = "inference.GRPCInferenceService", "ModelInfer"
DEADLINE_S = 1.0


async def serve_aio(port: int) -> Any:
    import grpc.aio

    async def echo(message: bytes, _context: Any) -> bytes:
        return message

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server


async def serve_grpclib(port: int) -> Any:
    const, base, servers = (importlib.import_module(f"grpclib.{name}") for name in ("const", "encoding.base", "server"))

    class Codec(base.CodecBase):  # type: ignore[name-defined]
        __content_subtype__ = "proto"

        def encode(self, message: bytes, _kind: type) -> bytes:
            return message

        def decode(self, data: bytes, _kind: type) -> bytes:
            return data

    class Echo:
        async def answer(self, stream: Any) -> None:
            await stream.send_message(await stream.recv_message())

        def __mapping__(self) -> dict[str, Any]:
            kind = const.Cardinality.UNARY_UNARY
            return {f"/{SERVICE}/{METHOD}": const.Handler(self.answer, kind, bytes, bytes)}

    server = servers.Server([Echo()], codec=Codec())
    await server.start("127.0.0.1", port)
    return server


async def serve(kind: str, port: int, turn_s: float) -> None:
    server = await {"grpc.aio": serve_aio, "grpclib": serve_grpclib}[kind](port)
    print("ready", flush=True)
    while server:  # until the process is killed
        busy_until = time.monotonic() + turn_s
        while time.monotonic() < busy_until:
            pass
        await asyncio.sleep(0 if turn_s else 0.01)


async def ask(port: int, rate: float, seconds: float) -> None:
    import grpc.aio

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        await call(b"first", wait_for_ready=True)
        ended: list[float] = []

        async def once(due: float) -> None:
            try:
                await call(b"row", timeout=2 * DEADLINE_S)
            except grpc.aio.AioRpcError:
                ended.append(2 * DEADLINE_S)
            else:
                ended.append(time.monotonic() - due)

        started, tasks = time.monotonic() + 0.5, []
        for number in range(int(rate * seconds)):
            due = started + number / rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            tasks.append(asyncio.ensure_future(once(due)))
        await asyncio.gather(*tasks)
    print(json.dumps(ended))


def measure(kind: str, turn_s: float, rate: float, seconds: float) -> list[float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    me = [sys.executable, __file__]
    server = subprocess.Popen([*me, "--serve", kind, str(port), str(turn_s)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        words = ["--ask", str(port), str(rate), str(seconds)]
        found = subprocess.run([*me, *words], stdout=subprocess.PIPE, text=True, check=True)
        ended: list[float] = json.loads(found.stdout)
        return ended
    finally:
        server.kill()
        server.wait()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--turns-ms", type=float, nargs="+", default=[0, 2, 5, 10])
    options.add_argument("--rate", type=float, default=100.0)
    options.add_argument("--seconds", type=float, default=6.0)
    options.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options.add_argument("--ask", nargs=3, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.serve:
        uvloop.run(serve(arguments.serve[0], int(arguments.serve[1]), float(arguments.serve[2])))
    elif arguments.ask:
        uvloop.run(ask(int(arguments.ask[0]), *map(float, arguments.ask[1:])))
    else:
        kinds = ["grpc.aio", *(["grpclib"] if importlib.util.find_spec("grpclib") else [])]
        print(f"{os.cpu_count()} CPUs, {arguments.rate:g} calls/s\nturn ms  server    in time   ms p50/p90/p99")
        for turn_ms in arguments.turns_ms:
            for kind in kinds:
                ended = measure(kind, turn_ms / 1e3, arguments.rate, arguments.seconds)
                p50, p90, p99 = np.quantile(ended, [0.5, 0.9, 0.99]) * 1e3
                in_time = np.mean(np.array(ended) <= DEADLINE_S)
                print(f"{turn_ms:7g}  {kind:9} {in_time:7.1%}   {p50:.0f} / {p90:.0f} / {p99:.0f}", flush=True)


if __name__ == "__main__":
    main()
