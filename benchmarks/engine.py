"""The data plane alone, without doors, HTTP or Ray: an engine before three member processes, and where its time goes.

    OMP_NUM_THREADS=1 python benchmarks/engine.py [--rounds 5] [--profile]

``--profile`` adds cProfile's table for one client (it makes Python calls look dearer than they are); for native code:
``py-spy record --native`` or ``perf record -g`` on the process while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import uvloop

PEERS = Path(__file__).parent / "serving_peers"
sys.path.insert(0, str(PEERS))

from mlp import NUM_CLASSES, NUM_FEATURES, SEEDS  # noqa: E402

from quorate.deployments import load_model, parse_spec  # noqa: E402
from quorate.deployments.engine.engine import Engine  # noqa: E402
from quorate.deployments.members.inference_loop import InferenceLoop  # noqa: E402
from quorate.deployments.members.predictor import Predictor  # noqa: E402
from quorate.deployments.routing.replica import Address  # noqa: E402
from quorate.deployments.spec.ensemble import EnsembleSpec  # noqa: E402
from quorate.deployments.transport.unix import UnixListener  # noqa: E402

REQUESTS = {1: 1500, 64: 9600}  # by the number of clients
SPEC = parse_spec(
    {
        "name": "mlps",
        "inputs": {"x": {"datatype": "FP32", "shape": [NUM_FEATURES]}},
        "classes": [str(number) for number in range(NUM_CLASSES)],
        "members": {f"mlp{seed}": {"model": "mlp:build", "config": {"seed": seed}, "inputs": ["x"]} for seed in SEEDS},
        "fusion": {"rule": "mean", "deadline_s": 5.0},
    }
)
ROW = {"x": np.random.default_rng(0).standard_normal((1, NUM_FEATURES)).astype(np.float32)}


def _loop(predictor: Predictor, member: Any, listener: UnixListener) -> InferenceLoop:
    """The inference loop; in versions that ``doors`` compares with it runs one member, and no group."""
    try:
        from quorate.deployments.members.member_group import MemberGroup
    except ImportError:
        return InferenceLoop(predictor, member.inputs, member.max_batch_size, [listener])  # type: ignore[arg-type,call-arg]
    return InferenceLoop(MemberGroup([predictor]), [listener])


def serve_member(name: str, path: Path, spec: EnsembleSpec = SPEC) -> None:
    """One member replica, until standard input closes."""
    member = spec.members[name]
    predictor = Predictor(load_model(name, member, PEERS), spec.job(name))
    predictor.warm_up()
    loop = _loop(predictor, member, UnixListener(path))
    loop.start()
    print("up", flush=True)
    sys.stdin.read()
    loop.drain(1)


async def connect(folder: Path) -> Engine:
    engine = Engine(SPEC, PEERS, "here")
    for name in SPEC.members:
        engine.revisions.set_replicas(name, {"only": Address("only", "here", str(folder / name))})
    while not all(engine.ready().values()):  # noqa: ASYNC110 (an engine tells nobody)
        await asyncio.sleep(0.01)
    return engine


async def ask(engine: Engine, requests: int) -> list[float]:
    latencies = []
    for _ in range(requests):
        started = time.perf_counter()
        await engine.infer(ROW)
        latencies.append(time.perf_counter() - started)
    return latencies


async def measure(engine: Engine, members: Sequence[psutil.Process], clients: int) -> dict[str, float]:
    """p50 in us, requests per second, and CPU microseconds a request of the fusion and of one member."""

    def cpu() -> tuple[float, float]:
        times = [process.cpu_times() for process in members]
        return time.process_time(), sum(t.user + t.system for t in times) / len(times)

    requests = REQUESTS[clients]
    before, started = cpu(), time.perf_counter()
    found = await asyncio.gather(*(ask(engine, requests // clients) for _ in range(clients)))
    elapsed, after = time.perf_counter() - started, cpu()
    return {
        "p50 us": 1e6 * statistics.median(latency for each in found for latency in each),
        "requests/s": requests / elapsed,
        "fusion CPU us": 1e6 * (after[0] - before[0]) / requests,
        "member CPU us": 1e6 * (after[1] - before[1]) / requests,
    }


async def run(folder: Path, members: Sequence[psutil.Process], rounds: int, profile: bool) -> None:
    torch.set_num_threads(1)
    engine = await connect(folder)
    await ask(engine, 300)
    for clients in REQUESTS:
        found = [await measure(engine, members, clients) for _ in range(rounds)]
        for name in found[0]:
            values = sorted(one[name] for one in found)
            middle, low, high = statistics.median(values), values[0], values[-1]
            print(f"{clients:2} clients  {name:14} {middle:8,.0f}  ({low:,.0f} - {high:,.0f})", flush=True)
    if profile:
        with cProfile.Profile() as profiler:
            await ask(engine, 3000)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    engine.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--profile", action="store_true")
    options.add_argument("--member", nargs=2, metavar=("NAME", "PATH"), help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.member:
        serve_member(arguments.member[0], Path(arguments.member[1]))
        return
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--member", name, str(Path(folder) / name)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for name in SPEC.members
        ]  # fmt: skip
        try:
            for process in processes:
                assert process.stdout is not None
                process.stdout.readline()
            members = [psutil.Process(process.pid) for process in processes]
            uvloop.run(run(Path(folder), members, arguments.rounds, arguments.profile))
        finally:
            for process in processes:
                process.kill()


if __name__ == "__main__":
    main()
