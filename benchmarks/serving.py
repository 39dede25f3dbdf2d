"""Quorate and its peers side by side in one run: the same models, the same bodies, the same clients.

    python benchmarks/serving.py [--triton PYTHON] [--triton-onnx FOLDER] [--mosec PYTHON] [--rounds 5] [--json FILE]
        [--only peers wires inputs members far straggler memory]

Each system is a process tree of its own. Rounds visit them in turn (A B C D E A B C D E ...), so that whatever else the
machine does falls on all of them, and ratios are taken within a round. While one is measured the other Ray clusters are
stopped (SIGSTOP): each takes 0.13 of a core when idle, which would be the others' loss. All are first checked to answer
the same numbers, over every wire that is measured. wrk and h2load must be installed (Debian's wrk and nghttp2-client).

--triton is the interpreter of an environment with nvidia-pytriton, --mosec of one with mosec, torch and orjson;
--triton-onnx is a folder that holds Triton's ONNX Runtime backend, which nvidia-pytriton lacks.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import grpc
import numpy as np
import psutil

PEERS = Path(__file__).parent / "serving_peers"
sys.path[:0] = [str(PEERS), str(PEERS.parents[1])]

from bodies import GRPC_INFER, HEAD_LENGTH, INFER, Rows, binary_body, grpc_message, json_body, read_answer  # noqa: E402
from child import free_port  # noqa: E402
from load import WIRES, Closed, Loads  # noqa: E402
from mlp import NUM_CLASSES, NUM_FEATURES  # noqa: E402
from quorate_ensemble import PLACEMENTS  # noqa: E402
from system import RAY, Peer, System, stop_all  # noqa: E402
from tables import Column, cpu, latency, rate, ratios, spread, table, write_medians  # noqa: E402
from two_nodes import measure_far  # noqa: E402

from quorate.deployments.client.load.load_test import NUM_PAYLOADS, Load, send_load  # noqa: E402
from quorate.deployments.wire import open_inference_pb2 as pb  # noqa: E402

PARTS = ("peers", "wires", "inputs", "members", "far", "straggler", "memory")
IMAGE = 3 * 224 * 224  # of FP32: 602 KB
Found = dict[tuple[str, str, int], list[Closed]]
Cells = Sequence[tuple[str, int]]  # wire, or "" for each system's own; and clients


def peers(arguments: argparse.Namespace, folder: Path) -> list[Peer]:
    """All that can run here, ours first."""
    ray = tuple(RAY.items())
    ours = ("quorate_ensemble.py",)
    found = [
        Peer("quorate_apart", "Quorate, apart", (*ours, "--placement", "apart"), ray),
        Peer("one_process", "all models in one uvicorn process", ("one_process.py",)),
        Peer("serve_manual", "Serve composition, as in the manual", ("serve_composition.py",), ray),
        Peer(
            "serve_tuned", "Serve composition, throughput flags + HAProxy", ("serve_composition.py",),
            (*ray, *haproxy(folder / "tuned", 0), ("SERVE_TUNED", "1")),
        ),
        Peer(
            "serve_batched", "the same, batched once in the fusion", ("serve_composition.py",),
            (*ray, *haproxy(folder / "batched", 1), ("SERVE_BATCHED", "1")),
        ),
    ]  # fmt: skip
    if PLACEMENTS:
        found.insert(0, Peer("quorate_together", "Quorate, together", (*ours, "--placement", "together"), ray))
    if arguments.mosec:
        found.append(Peer("mosec", "MOSEC, all models in one worker", ("mosec_server.py",), python=arguments.mosec))
    if arguments.triton:
        command = ("triton_server/server.py", "--python", arguments.triton)
        found.append(Peer("triton", "Triton ensemble, Python backend", command))
        if arguments.triton_onnx:
            onnx = (*command, "--onnx-backend", arguments.triton_onnx)
            found.append(Peer("triton_onnx", "Triton ensemble, ONNX Runtime backend, gRPC", onnx, wire="grpc"))
    left_out = [
        f"--{name.replace('_', '-')}" for name in ("triton", "triton_onnx", "mosec") if not vars(arguments)[name]
    ]
    if left_out:
        print(f"left out, since nothing was given for them: {', '.join(left_out)}", file=sys.stderr)
    return found


def haproxy(folder: Path, number: int) -> tuple[tuple[str, str], ...]:
    """Ray Serve's throughput flags, and HAProxy in front of it; ports and files are none of another ``number``'s."""
    folder.mkdir()
    ports = [f"RAY_SERVE_{name}_PORT" for name in (
        "HAPROXY_STATS", "HAPROXY_METRICS", "FALLBACK_PROXY_HTTP", "FALLBACK_PROXY_GRPC",
    )]  # fmt: skip
    first = {"HTTP": 30_000 + 1000 * number, "GRPC": 40_000 + 1000 * number}
    return (
        ("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1"),
        ("RAY_SERVE_ENABLE_HA_PROXY", "1"),
        ("RAY_SERVE_HAPROXY_NBTHREAD", "2"),
        *((name, str(free_port())) for name in ports),
        *((f"RAY_SERVE_DIRECT_INGRESS_MIN_{wire}_PORT", str(port)) for wire, port in first.items()),
        *((f"RAY_SERVE_DIRECT_INGRESS_MAX_{wire}_PORT", str(port + 999)) for wire, port in first.items()),
        ("RAY_SERVE_HAPROXY_CONFIG_FILE_LOC", str(folder / "haproxy.cfg")),
        ("RAY_SERVE_HAPROXY_SOCKET_PATH", str(folder / "admin.sock")),
        ("RAY_SERVE_HAPROXY_SERVER_STATE_BASE", str(folder)),
        ("RAY_SERVE_HAPROXY_SERVER_STATE_FILE", str(folder / "server-state")),
    )


@contextmanager
def running(found: Sequence[Peer], *arguments: str) -> Iterator[list[System]]:
    """Them, while the context lasts."""
    systems: list[System] = []
    try:
        for peer in found:
            systems.append(peer.start(*arguments))  # noqa: PERF401 (those that have started are to be stopped)
        yield systems
    finally:
        stop_all(systems)


def answer(system: System, wire: str, row: Rows) -> Rows:
    """(1, C): what a system says, asked once."""
    if wire == "grpc":
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(system.details["grpc"], options=options) as channel:
            reply = pb.ModelInferResponse.FromString(channel.unary_unary(GRPC_INFER)(grpc_message(row), timeout=60))
        return np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(1, -1)
    if wire == "binary" and "raw" in system.details:
        return np.frombuffer(_posted(system.details["raw"], row.tobytes(), {})[0], np.float32).reshape(1, -1)
    if wire == "binary":
        body, head = binary_body(row)
        return read_answer(*_posted(system.url + INFER, body, {HEAD_LENGTH: str(head)}))
    return read_answer(*_posted(system.url + INFER, json_body(row), {"Content-Type": "application/json"}))


def _posted(url: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as reply:
        return reply.read(), dict(reply.headers)


def check_same_answers(systems: Sequence[System], cells: Cells, row: Rows) -> None:
    """Comparing speeds means something only when all compute the same."""
    first: Rows | None = None
    for system in systems:
        for wire in dict.fromkeys(wire or system.peer.wire for wire, _ in cells):
            if not system.has(wire):
                continue
            values = answer_soon(system, wire, row)
            first = values if first is None else first
            if values.shape != (1, NUM_CLASSES) or not np.allclose(values, first, atol=1e-5):
                sys.exit(
                    f"{system.name} answers {values} over {wire}, {systems[0].name} {first}: not the same ensemble"
                )


def answer_soon(system: System, wire: str, row: Rows) -> Rows:
    """What it says; asked again for a while, since Ray starts anew what did not answer while it was stopped."""
    until = time.monotonic() + 60
    while True:
        try:
            return answer(system, wire, row)
        except (OSError, grpc.RpcError, HTTPException) as error:
            if time.monotonic() > until:
                sys.exit(f"{system.name} does not answer over {wire}: {error}")
            time.sleep(0.2)


def measure(
    loads: Loads, systems: Sequence[System], cells: Cells, row: Rows, rounds: int, seconds: int
) -> Found:  # fmt: skip
    """Visit the systems in turn, and of each all cells that it has."""
    found: Found = {}
    for system in systems:
        system.pause()
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for system in systems:
            asked = [(wire or system.peer.wire, clients) for wire, clients in cells]
            asked = [(wire, clients) for wire, clients in asked if system.has(wire)]
            system.resume()
            if asked:
                wire, clients = asked[-1]
                answer_soon(system, wire, row)
                loads.run(system, wire, clients, 1 if number else 3)  # warm caches, and heartbeats that were missed
            for wire, clients in asked:
                found.setdefault((system.name, wire, clients), []).append(loads.run(system, wire, clients, seconds))
            system.pause()
    return found


def compare(
    tables: Mapping[str, Sequence[Column]], found: Sequence[Peer], cells: Cells, arguments: argparse.Namespace,
    folder: Path, features: int = NUM_FEATURES, members: int = 3,
) -> Found:  # fmt: skip
    """Start systems, measure them, and print tables of these titles and columns."""
    loads, rows = bodies_of(features, folder)
    with running(found, "--members", str(members), "--features", str(features)) as systems:
        check_same_answers(systems, cells, rows[0])
        measured = measure(loads, systems, cells, rows[0], arguments.rounds, arguments.seconds)
    for title, columns in tables.items():
        shown = [peer for peer in found if any((peer.name, c[2] or peer.wire, c[3]) in measured for c in columns)]
        wires = {peer.name: peer.wire for peer in shown}
        print(f"### {title}\n\n{table(measured, wires, columns)}\n", flush=True)
        for peer in shown:
            if peer.key.startswith("quorate") and len(shown) > 1:
                print(ratios(measured, peer.name, wires, columns) + "\n", flush=True)
    return measured


def bodies_of(features: int, folder: Path) -> tuple[Loads, list[Rows]]:
    """Rows of so many numbers, and what asks for their answers."""
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((1, features)).round(4).astype(np.float32) for _ in range(NUM_PAYLOADS)]
    return Loads(rows, Path(tempfile.mkdtemp(dir=folder))), rows


def compare_peers(arguments: argparse.Namespace, found: Sequence[Peer], folder: Path) -> None:
    columns = [latency("", 1), rate("", 8), rate("", 64), cpu("", 1), cpu("", 64)]
    tables = {"Three members, JSON over HTTP where no other wire is named": columns}
    measured = compare(tables, found, [("", 1), ("", 8), ("", 64)], arguments, folder)
    if arguments.json:
        write_medians(arguments.json, measured, {peer.key: (peer.name, peer.wire) for peer in found})


def compare_wires(arguments: argparse.Namespace, found: Sequence[Peer], folder: Path) -> None:
    tables, cells = {}, []
    for wire in ("binary", "grpc"):
        tables[f"Three members, {WIRES[wire]}"] = [latency(wire, 1), rate(wire, 8), rate(wire, 64), cpu(wire, 64)]
        cells += [(wire, clients) for clients in (1, 8, 64)]
    compare(tables, found, cells, arguments, folder)


def compare_inputs(arguments: argparse.Namespace, found: Sequence[Peer], folder: Path) -> None:
    asked = [peer for peer in found if peer.key != "serve_manual"]
    for size, features in (("4 KB", 1024), ("602 KB", IMAGE)):
        tables, cells = {}, []
        for wire in ("binary", "grpc"):
            tables[f"Three members, {size} a row, {WIRES[wire]}"] = [latency(wire, 1), rate(wire, 8), cpu(wire, 8)]
            cells += [(wire, clients) for clients in (1, 8)]
        compare(tables, asked, cells, arguments, folder, features)


def compare_members(arguments: argparse.Namespace, found: Sequence[Peer], folder: Path) -> None:
    asked = [peer for peer in found if peer.key not in ("serve_manual", "serve_tuned")]
    for members in (1, 8, 32):
        title = f"{members} member{'s' if members > 1 else ''}, JSON over HTTP where no other wire is named"
        tables = {title: [latency("", 1), rate("", 64), cpu("", 64)]}
        compare(tables, asked, [("", 1), ("", 64)], arguments, folder, members=members)


def measure_straggler(loads: Loads, bodies: Sequence[bytes], deadline_s: float, rounds: int, seconds: int) -> str:
    """One member of three sleeps ten times the deadline; against the two others alone."""
    arguments = ("--deadline-s", str(deadline_s), "--sleep-s", str(10 * deadline_s))
    system = Peer("", "Quorate with a straggler", ("quorate_ensemble.py",), tuple(RAY.items())).start(*arguments)
    healthy_url = system.details["healthy_url"] + INFER.replace("mlps", "healthy")
    try:
        loads.run(system, "json", 64, 2)
        late, healthy = [], []
        for _ in range(rounds):
            late.append(loads.run(system, "json", 64, seconds))
            healthy.append(loads.http(healthy_url, "json", 64, seconds))
        load = Load(clients=64, rate=500, duration_s=seconds, warm_up_s=0.5)
        opened = [send_load(system.url, INFER, bodies, load) for _ in range(rounds)]
    finally:
        system.stop()
    labelled = sum(one.degraded for one in opened) / sum(one.requests for one in opened)
    rates = [a.rate / b.rate for a, b in zip(late, healthy, strict=True)]
    return "\n".join(
        [
            f"| one of three members sleeps {10 * deadline_s:g} s, deadline {1e3 * deadline_s:g} ms | figure |",
            "|---|---|",
            f"| p99, 64 clients in closed loop | {spread([one.p99_ms for one in late], ' ms')} |",
            f"| p99, open loop at 500 /s | {spread([one.p99_ms for one in opened], ' ms')} |",
            f"| max, open loop at 500 /s | {spread([one.max_ms for one in opened], ' ms')} |",
            f"| of those, answered and labelled degraded | {labelled:.2%} |",
            f"| rate at 64 clients | {spread([one.rate for one in late], ' /s')} |",
            f"| the same over the healthy pair's | {spread(rates, 'x')} |",
            f"| errors, closed, open loop | {sum(one.errors for one in late)}, {sum(one.errors for one in opened)} |",
            *(f"\nFirst error: {one.first_error}" for one in opened if one.first_error),
        ]
    )


def measure_memory(loads: Loads, system: System, requests: int) -> str:
    """Resident memory of the fusion replica after a warm-up and after so many more requests."""
    process = psutil.Process(system.details["fusion_pid"])
    loads.run(system, "json", 64, 10)
    series = [process.memory_info().rss / 2**20]
    sent = 0
    while sent < requests:
        sent += loads.run(system, "json", 64, 20).requests
        series.append(process.memory_info().rss / 2**20)
        print(f"{sent} requests, {series[-1]:.1f} MiB", file=sys.stderr, flush=True)
    grown = series[-1] - series[0]
    return f"Fusion replica's RSS: {series[0]:.1f} MiB after warm-up, {grown:+.1f} MiB after {sent:,} requests more."


def asked_for() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--triton", metavar="PYTHON")
    options.add_argument("--triton-onnx", metavar="FOLDER")
    options.add_argument("--mosec", metavar="PYTHON")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=2, help="length of each measurement")
    options.add_argument("--json", type=Path, metavar="FILE", help="medians of the part peers")
    options.add_argument("--deadline-s", type=float, default=0.05, help="of the straggler rows")
    options.add_argument(
        "--memory-requests", type=int, default=1_000_000, help="that the fusion's memory is watched for"
    )
    options.add_argument("--only", choices=PARTS, nargs="+", default=("peers",), help="parts; peers if left out")
    options.add_argument("--keys", nargs="+", help="of systems, as --json has them; all if left out")
    return options.parse_args()


def main() -> None:
    arguments = asked_for()
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    with tempfile.TemporaryDirectory(prefix="q") as name:
        folder = Path(name)
        found = [peer for peer in peers(arguments, folder) if arguments.keys is None or peer.key in arguments.keys]
        for part, run in {
            "peers": compare_peers, "wires": compare_wires, "inputs": compare_inputs, "members": compare_members,
        }.items():  # fmt: skip
            if part in arguments.only:
                run(arguments, found, folder)
        loads, rows = bodies_of(NUM_FEATURES, folder)
        if "far" in arguments.only:
            print(measure_far(rows, folder, arguments.rounds, arguments.seconds) + "\n", flush=True)
        if "straggler" in arguments.only:
            bodies = [json_body(row) for row in rows]
            print(measure_straggler(loads, bodies, arguments.deadline_s, arguments.rounds, arguments.seconds) + "\n")
        if "memory" in arguments.only:
            system = Peer("", "Quorate", ("quorate_ensemble.py",), tuple(RAY.items())).start()
            try:
                print(measure_memory(loads, system, arguments.memory_requests))
            finally:
                system.stop()


if __name__ == "__main__":
    main()
