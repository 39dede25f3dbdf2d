"""Quorate and its peers side by side in one run: the same three models, the same bodies, the same client.

    python benchmarks/serving.py [--triton PYTHON] [--rounds 5] [--memory-requests 1000000]

Each system is a process tree of its own. Rounds visit them in turn (A B C D E A B C D E ...), so that whatever else the
machine does falls on all of them, and ratios are taken within a round. While one is measured the other Ray clusters are
stopped (SIGSTOP): each takes 0.13 of a core when idle, which would be the others' loss.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

PEERS = Path(__file__).parent / "serving_peers"
sys.path.insert(0, str(PEERS))

from child import free_port  # noqa: E402
from wrk import PATH, Closed, Wrk  # noqa: E402

from quorate.deployments.client.load.load_test import NUM_PAYLOADS, Load, send_load  # noqa: E402
from quorate.deployments.client.load.random_inputs import random_inputs  # noqa: E402

OURS = "Quorate"
CLIENTS = (1, 8, 64)
RAY = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
Row = dict[int, Closed]


@dataclass
class System:
    """One of the systems, running."""

    name: str
    process: subprocess.Popen[str]
    details: dict[str, Any]
    on_ray: bool

    @property
    def url(self) -> str:
        return str(self.details["url"])

    def pause(self) -> None:
        if self.on_ray:  # the others idle for nothing, and Triton takes a paused model for a dead one
            for process in self._tree():
                process.suspend()

    def resume(self) -> None:
        for process in self._tree():
            process.resume()

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def start(name: str, script: str, *arguments: str, **environment: str) -> System:
    """Start a system and wait until it answers."""
    print(f"starting {name} ...", file=sys.stderr, flush=True)
    process = subprocess.Popen(
        [sys.executable, str(PEERS / script), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PEERS)} | environment,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith('{"url"'):
            return System(name, process, json.loads(line), on_ray=RAY.items() <= environment.items())
    sys.exit(f"{name} did not start; its output is above")


def start_all(triton: str | None, folder: Path) -> list[System]:
    haproxy = {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }
    systems = [
        start(OURS, "quorate_ensemble.py", **RAY),
        start("Serve composition, as in the manual", "serve_composition.py", **RAY),
        start("Serve composition, throughput flags + HAProxy", "serve_composition.py", "--tuned", **RAY, **haproxy),
        start("all models in one uvicorn process", "one_process.py"),
    ]
    if triton:
        systems.append(start("Triton ensemble, Python backend", "triton.py", triton))
    else:
        print("Triton left out: no --triton PYTHON with nvidia-pytriton was given", file=sys.stderr)
    return systems


def check_same_answers(systems: Sequence[System], body: bytes) -> None:
    """Comparing speeds means something only when all compute the same."""
    answers = {}
    for system in systems:
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(system.url + PATH, body, headers), timeout=30) as reply:
            answers[system.name] = np.array(json.loads(reply.read())["outputs"][0]["data"])
    for name, values in answers.items():
        if not np.allclose(values, answers[OURS], atol=1e-5):
            sys.exit(f"{name} answers {values}, {OURS} {answers[OURS]}: not the same ensemble")


def measure(wrk: Wrk, systems: Sequence[System], rounds: int, seconds: int) -> list[dict[str, Row]]:
    for system in systems:
        system.pause()
    found: list[dict[str, Row]] = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        found.append({})
        for system in systems:
            system.resume()
            wrk.run(system.url, 64, 1 if number else 3)  # warm caches, and heartbeats that were missed
            found[-1][system.name] = {clients: wrk.run(system.url, clients, seconds) for clients in CLIENTS}
            system.pause()
    return found


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median (min - max)."""
    low, middle, high = (
        f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
        for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle}{unit} ({low} - {high})"


def table(rounds: Sequence[dict[str, Row]]) -> str:
    """Markdown: figures of each system, and Quorate's over each peer's, taken round by round."""
    lines = ["| system | p50 at 1 client | rate at 8 clients | rate at 64 clients | errors |", "|---|---|---|---|---|"]
    names = list(rounds[0])
    for name in names:
        rows = [found[name] for found in rounds]
        rates = [spread([row[clients].rate for row in rows], " /s") for clients in (8, 64)]
        errors = sum(row[clients].errors for row in rows for clients in CLIENTS)
        lines.append(
            f"| {name} | {spread([row[1].p50_ms for row in rows], ' ms')} | {rates[0]} | {rates[1]} | {errors} |"
        )
    lines += ["", f"| {OURS} against | p50 at 1 client | rate at 8 clients | rate at 64 clients |", "|---|---|---|---|"]
    for name in names[1:]:
        p50 = spread([found[OURS][1].p50_ms / found[name][1].p50_ms for found in rounds], "x")
        rates = [spread([found[OURS][c].rate / found[name][c].rate for found in rounds], "x") for c in (8, 64)]
        lines.append(f"| {name} | {p50} | {rates[0]} | {rates[1]} |")
    return "\n".join(lines)


def measure_straggler(wrk: Wrk, bodies: Sequence[bytes], deadline_s: float, rounds: int, seconds: int) -> str:
    """One member of three sleeps ten times the deadline; against the two others alone."""
    arguments = ("--deadline-s", str(deadline_s), "--sleep-s", str(10 * deadline_s))
    system = start("Quorate with a straggler", "quorate_ensemble.py", *arguments, **RAY)
    try:
        wrk.run(system.url, 64, 2)
        late, healthy = [], []
        for _ in range(rounds):
            late.append(wrk.run(system.url, 64, seconds))
            healthy.append(wrk.run(system.details["healthy_url"], 64, seconds, PATH.replace("mlps", "healthy")))
        load = Load(clients=64, rate=500, duration_s=seconds, warm_up_s=0.5)
        opened = [send_load(system.url, PATH, bodies, load) for _ in range(rounds)]
    finally:
        system.stop()
    labelled = sum(one.degraded for one in opened) / sum(one.requests for one in opened)
    ratios = [a.rate / b.rate for a, b in zip(late, healthy, strict=True)]
    return "\n".join(
        [
            f"| one of three members sleeps {10 * deadline_s:g} s, deadline {1e3 * deadline_s:g} ms | figure |",
            "|---|---|",
            f"| p99, 64 clients in closed loop | {spread([one.p99_ms for one in late], ' ms')} |",
            f"| p99, open loop at 500 /s | {spread([one.p99_ms for one in opened], ' ms')} |",
            f"| max, open loop at 500 /s | {spread([one.max_ms for one in opened], ' ms')} |",
            f"| of those, answered and labelled degraded | {labelled:.2%} |",
            f"| rate at 64 clients | {spread([one.rate for one in late], ' /s')} |",
            f"| the same over the healthy pair's | {spread(ratios, 'x')} |",
            f"| errors, closed, open loop | {sum(one.errors for one in late)}, {sum(one.errors for one in opened)} |",
            *(f"\nFirst error: {one.first_error}" for one in opened if one.first_error),
        ]
    )


def measure_memory(wrk: Wrk, system: System, requests: int) -> str:
    """Resident memory of the fusion replica after a warm-up and after so many more requests."""
    process = psutil.Process(system.details["fusion_pid"])
    wrk.run(system.url, 64, 10)
    series = [process.memory_info().rss / 2**20]
    sent = 0
    while sent < requests:
        sent += wrk.run(system.url, 64, 20).requests
        series.append(process.memory_info().rss / 2**20)
        print(f"{sent} requests, {series[-1]:.1f} MiB", file=sys.stderr, flush=True)
    grown = series[-1] - series[0]
    return f"Fusion replica's RSS: {series[0]:.1f} MiB after warm-up, {grown:+.1f} MiB after {sent:,} requests more."


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--triton", metavar="PYTHON", help="interpreter of an environment with nvidia-pytriton")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3, help="length of each measurement")
    options.add_argument("--deadline-s", type=float, default=0.05, help="of the straggler rows")
    options.add_argument("--memory-requests", type=int, default=0, help="also watch the fusion's memory for so many")
    options.add_argument("--only", choices=["peers", "straggler", "memory"], help="one part instead of all")
    arguments = options.parse_args()
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}]
    rng = np.random.default_rng(0)
    bodies = [json.dumps({"inputs": random_inputs(inputs, 1, rng)}).encode() for _ in range(NUM_PAYLOADS)]
    with tempfile.TemporaryDirectory() as folder:
        wrk = Wrk(bodies, Path(folder))
        print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
        if arguments.only in (None, "peers"):
            systems = start_all(arguments.triton, Path(folder))
            try:
                check_same_answers(systems, bodies[0])
                print(table(measure(wrk, systems, arguments.rounds, arguments.seconds)) + "\n", flush=True)
            finally:
                for system in systems:
                    if system.process.poll() is None:
                        system.resume()
                        system.stop()
        if arguments.only in (None, "straggler"):
            print(measure_straggler(wrk, bodies, arguments.deadline_s, arguments.rounds, arguments.seconds) + "\n")
        if arguments.memory_requests:
            system = start(OURS, "quorate_ensemble.py", **RAY)
            try:
                print(measure_memory(wrk, system, arguments.memory_requests))
            finally:
                system.stop()


if __name__ == "__main__":
    main()
