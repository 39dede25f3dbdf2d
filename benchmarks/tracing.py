"""What traces cost: the same ensemble behind its HTTP door with traces off, of one request in a hundred, and of all.

    OMP_NUM_THREADS=1 python benchmarks/tracing.py [--absent PYTHON] [--rounds 15] [--seconds 2] [--clients 64]

For each way a fusion server and three members in processes of their own; a receiver that takes spans and forgets them;
clients in a closed loop. Every round measures every way once, in another order. ``--absent`` is the Python of an
environment whose Quorate has no traces at all (a checkout of a version before them). Ratios are of a round's own pairs:
their median, and the middle half.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import psutil
import uvloop

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "serving_peers")]

from benchmarks.engine import PEERS, ROW, SPEC, serve_member  # noqa: E402

if TYPE_CHECKING:
    from quorate.deployments.server.fusion_server import FusionServer
    from quorate.deployments.spec.ensemble import EnsembleSpec

# What is set for each way.
WAYS = {
    "off": {"trace_level": ["OFF"]},
    "1 %": {"trace_level": ["TIMESTAMPS"], "trace_rate": "100"},
    "100 %": {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"},
}
ABSENT = "absent"
# Before all, as an exporter that begins takes 4 to 9 % of a second; and before each measurement.
FIRST_S, WARM_UP_S = 3.0, 0.5
_BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": list(ROW["x"].shape), "data": ROW["x"].ravel().tolist()}]}
).encode()
_REQUEST = (
    b"POST /v2/models/mlps/infer HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


def start_server(script: str, folder: Path, spec: EnsembleSpec = SPEC) -> FusionServer:
    """A fusion server before members in processes of their own, of a script that knows ``--member``; says its port, and
    the processes.
    """
    from quorate.deployments.engine.engine import Engine
    from quorate.deployments.routing.replica import Address
    from quorate.deployments.security.access import Doorkeeper
    from quorate.deployments.security.doors import Doors
    from quorate.deployments.server.fusion_server import FusionServer, Served, ServerSettings

    names = list(spec.members)
    members = [start_child(script, "--member", name, str(folder / name)) for name in names]

    def find(app, on_replicas):  # type: ignore[no-untyped-def]
        on_replicas({"only": Address("only", "here", str(folder / app))})
        return lambda: None

    server = FusionServer(
        ServerSettings("127.0.0.1", 0, 0, Doorkeeper(Doors())),
        lambda served: Engine(served.spec, served.folder, "here", apps=served.apps), find,
    )  # fmt: skip
    server.start(Served(spec, PEERS, {name: name for name in names}))
    print(json.dumps([server.http_port, os.getpid(), *(member.pid for member in members)]), flush=True)
    return server


def run_as_told(
    options: argparse.ArgumentParser, serve: Callable[[Path], None], run: Callable[[argparse.Namespace], None],
    spec: EnsembleSpec = SPEC,
) -> None:  # fmt: skip
    """The benchmark, or one of the processes that it starts of its own script."""
    options.add_argument("--serve", help=argparse.SUPPRESS)
    options.add_argument("--member", nargs=2, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.member:
        serve_member(arguments.member[0], Path(arguments.member[1]), spec)
    elif arguments.serve:
        serve(Path(arguments.serve))
    else:
        run(arguments)


def serve(folder: Path) -> None:
    """A server and its members, until standard input closes."""
    start_server(__file__, folder)
    sys.stdin.read()
    os._exit(0)


def receive() -> None:
    """Take spans, until standard input closes."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
        spans = 0

        def Export(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
            self.spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    server, receiver = grpc.server(ThreadPoolExecutor(1)), Receiver()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    print(receiver.spans, flush=True)


def start_child(
    script: str, *words: str, python: str = sys.executable, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """A process of a script that has said its first line, which is then its ``said``."""
    command = [python, script, *words]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    assert child.stdout is not None
    child.said = child.stdout.readline()  # type: ignore[attr-defined]
    return child


class Server:
    """One that runs.

    Attributes:
        url: of its HTTP door.
    """

    def __init__(self, child: subprocess.Popen[str]):
        port, *pids = json.loads(child.said)  # type: ignore[attr-defined]
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self._processes = [psutil.Process(pid) for pid in pids]

    def cpu_s(self) -> float:
        times = [process.cpu_times() for process in self._processes]
        return sum(one.user + one.system for one in times)


async def _client(port: int, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = 0
    while time.perf_counter() < until:
        writer.write(_REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        answers += 1
    writer.close()
    return answers


async def _load(port: int, clients: int, seconds: float) -> tuple[int, float]:
    started = time.perf_counter()
    counts = await asyncio.gather(*(_client(port, started + seconds) for _ in range(clients)))
    return sum(counts), time.perf_counter() - started


def measure(server: Server, clients: int, seconds: float) -> dict[str, float]:
    uvloop.run(_load(server.port, clients, WARM_UP_S))
    before = server.cpu_s()
    answers, took = uvloop.run(_load(server.port, clients, seconds))
    return {"rate": answers / took, "cpu_us": 1e6 * (server.cpu_s() - before) / answers}


def ratios(found: Sequence[dict[str, dict[str, float]]], way: str, base: str, what: str) -> str:
    """Median and middle half of one way's part of another's, round by round."""
    values = [one[way][what] / one[base][what] for one in found]
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.3f} ({low:.3f} - {high:.3f})"


def report(found: Sequence[dict[str, dict[str, float]]]) -> None:
    base = ABSENT if ABSENT in found[0] else "off"
    print(f"| traces | rate /s | of {base} | server's CPU us a request | of {base} |\n| --- | --- | --- | --- | --- |")
    for way in found[0]:
        rate, cpu = (statistics.median(one[way][what] for one in found) for what in ("rate", "cpu_us"))
        parts = ratios(found, way, base, "rate"), ratios(found, way, base, "cpu_us")
        print(f"| {way} | {rate:,.0f} | {parts[0]} | {cpu:,.0f} | {parts[1]} |", flush=True)
    if base == ABSENT:
        print(f"1 % of off: rate {ratios(found, '1 %', 'off', 'rate')}, CPU {ratios(found, '1 %', 'off', 'cpu_us')}")


def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        receiver = start_child(__file__, "--receive")
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.said.strip()}"}  # type: ignore[attr-defined]
        pythons = dict.fromkeys(WAYS, sys.executable) | ({ABSENT: arguments.absent} if arguments.absent else {})
        children, servers = [receiver], {}
        for way, python in pythons.items():
            children.append(start_child(__file__, "--serve", tempfile.mkdtemp(dir=folder), python=python, env=env))
            servers[way] = Server(children[-1])
            if way in WAYS:
                httpx.post(f"{servers[way].url}/v2/trace/setting", json=WAYS[way]).raise_for_status()
            uvloop.run(_load(servers[way].port, arguments.clients, FIRST_S))
        found = []
        for _ in range(arguments.rounds):
            order = random.sample(list(servers), len(servers))
            one = {way: measure(servers[way], arguments.clients, arguments.seconds) for way in order}
            found.append({way: one[way] for way in servers})
        report(found)
        for child in reversed(children):
            spans = child.communicate("")[0]
        print(f"{int(spans):,} spans received")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--absent", metavar="PYTHON")
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    run_as_told(options, serve, lambda arguments: receive() if arguments.receive else run(arguments))


if __name__ == "__main__":
    main()
