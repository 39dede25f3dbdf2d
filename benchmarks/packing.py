"""Eight members of one architecture on the CPU: a replica each, one process one by one, one process batched.

    OMP_NUM_THREADS=1 python benchmarks/packing.py [--rounds 5] [--requests 3200] [--clients 1 8 64]
    OMP_NUM_THREADS=1 python benchmarks/packing.py --passes

An engine with their fusion before their processes, without doors, HTTP or Ray; all ways in turn in each round, every
answer of one round compared. ``exact`` batches where no bit changes and it is faster, as members that share a process
do by themselves; ``batched`` always (``stack: true``). ``--passes`` takes the forward passes alone, of several
architectures and numbers of rows: how much faster one batched pass is than one by one, and whether bits differ.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import uvloop
from numpy.typing import NDArray
from torch import Tensor, nn

PEERS = Path(__file__).parent / "serving_peers"
sys.path.insert(0, str(PEERS))

from mlp import NUM_CLASSES, NUM_FEATURES  # noqa: E402

from quorate.deployments import load_model, parse_spec  # noqa: E402
from quorate.deployments.engine.engine import Engine  # noqa: E402
from quorate.deployments.members.inference_loop import InferenceLoop  # noqa: E402
from quorate.deployments.members.member_group import MemberGroup  # noqa: E402
from quorate.deployments.members.packing.stacking import Stack  # noqa: E402
from quorate.deployments.members.predictor import Predictor  # noqa: E402
from quorate.deployments.routing.replica import Address  # noqa: E402
from quorate.deployments.spec.ensemble import EnsembleSpec  # noqa: E402
from quorate.deployments.transport.unix import UnixListener  # noqa: E402

MEMBERS = 8
# By the way: whether members share a process, and their ``stack``.
WAYS: dict[str, tuple[bool, bool | None]] = {
    "apart": (False, None), "one by one": (True, False), "exact": (True, None), "batched": (True, True),
}  # fmt: skip
ROWS = np.random.default_rng(0).standard_normal((64, NUM_FEATURES)).astype(np.float32)


def spec(way: str) -> EnsembleSpec:
    stack = {} if WAYS[way][1] is None else {"stack": WAYS[way][1]}
    return parse_spec(
        {
            "name": "mlps",
            "inputs": {"x": {"datatype": "FP32", "shape": [NUM_FEATURES]}},
            "classes": [str(number) for number in range(NUM_CLASSES)],
            "members": {
                f"mlp{seed}": {"model": "mlp:build", "config": {"seed": seed}, "inputs": ["x"], **stack}
                for seed in range(MEMBERS)
            },
            "fusion": {"rule": "mean", "deadline_s": 5.0},
        }
    )


def serve(way: str, names: Sequence[str], path: Path) -> None:
    """Members in this process, until standard input closes."""
    found, predictors = spec(way), []
    for name in names:
        predictor = Predictor(load_model(name, found.members[name], PEERS), found.job(name))
        torch.set_num_threads(1)
        predictor.warm_up()
        predictors.append(predictor)
    group = MemberGroup(predictors)
    loop = InferenceLoop(group, [UnixListener(path)])
    loop.start()
    print(group.passes(), flush=True)
    sys.stdin.read()
    loop.drain(1)


class Serving:
    """The processes of one way, and an engine before them."""

    def __init__(self, way: str, folder: Path):
        self.way, self._folder, self._spec = way, folder, spec(way)
        names = list(self._spec.members)
        self._parts = [names] if WAYS[way][0] else [[name] for name in names]
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--serve", way, self._path(part), *part],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for part in self._parts
        ]  # fmt: skip

    def _path(self, part: Sequence[str]) -> str:
        return str(self._folder / f"{self.way.replace(' ', '')}-{part[0]}")

    async def connect(self) -> None:
        for process in self._processes:
            assert process.stdout is not None
            if said := process.stdout.readline().strip():
                print(f"{self.way}: {said}", flush=True)
        self.engine = Engine(self._spec, PEERS, "here")
        for part in self._parts:
            for name in part:
                shared: dict[str, Any] = {}
                if len(part) > 1:
                    shared = {"members": tuple(part), "outputs": (("FP32", (NUM_CLASSES,)),) * len(part)}
                address = Address("-".join(part), "here", self._path(part), **shared)
                self.engine.revisions.set_replicas(name, {address.replica_id: address})
        while not all(self.engine.ready().values()):
            self.engine.reconcile()
            await asyncio.sleep(0.01)

    def cpu_s(self) -> float:
        """Seconds of CPU that this process and those of the members have taken so far."""
        times = [psutil.Process(process.pid).cpu_times() for process in self._processes]
        return time.process_time() + sum(one.user + one.system for one in times)

    def stop(self) -> None:
        self.engine.close()
        for process in self._processes:
            process.kill()


async def ask(engine: Engine, requests: int) -> list[float]:
    latencies = []
    for number in range(requests):
        started = time.perf_counter()
        await engine.infer({"x": ROWS[number % 64][None]})
        latencies.append(time.perf_counter() - started)
    return latencies


async def measure(serving: Serving, clients: int, requests: int) -> tuple[float, float, float]:
    """p50 in us, requests per second, and requests per second of CPU time, that of the engine and of all members."""
    before, started = serving.cpu_s(), time.perf_counter()
    found = await asyncio.gather(*(ask(serving.engine, requests // clients) for _ in range(clients)))
    elapsed = time.perf_counter() - started
    p50 = 1e6 * statistics.median(latency for each in found for latency in each)
    return p50, requests / elapsed, requests / (serving.cpu_s() - before)


async def compare(rounds: int, requests: int, clients_of: Sequence[int], folder: Path) -> None:
    torch.set_num_threads(1)
    servings = [Serving(way, folder) for way in WAYS]
    try:
        for serving in servings:
            await serving.connect()
            await ask(serving.engine, 50)
        answers = {one.way: (await one.engine.infer({"x": ROWS})).values for one in servings}
        print_equal(answers)
        for clients in clients_of:
            count = requests if clients > 1 else requests // 4
            found = [[await measure(one, clients, count) for one in servings] for _ in range(rounds)]
            print_ratios(clients, found)
    finally:
        for serving in servings:
            serving.stop()


def print_equal(answers: Mapping[str, NDArray[np.float32]]) -> None:
    for way, values in answers.items():
        print(f"{way:11} differs from apart by {float(np.abs(values - answers['apart']).max()):g} at most")


def print_ratios(clients: int, found: Sequence[Sequence[tuple[float, float, float]]]) -> None:
    """Medians over the rounds, and ratios to ``apart`` of the same round."""
    for at, way in enumerate(WAYS):
        p50, rate = (statistics.median(one[at][part] for one in found) for part in (0, 1))
        ratios = []
        for part in (1, 2):
            faster = sorted(one[at][part] / one[0][part] for one in found)
            ratios.append(f"{statistics.median(faster):4.2f}x ({faster[0]:.2f} to {faster[-1]:.2f})")
        said = f"rate {ratios[0]}, rate per CPU second {ratios[1]} of apart"
        print(f"{clients:2} clients  {way:10} p50 {p50:8,.0f} us  {rate:8,.0f}/s  {said}", flush=True)


def architectures() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    def perceptron(inner: int, hidden: int, outer: int) -> Callable[[], nn.Module]:
        return lambda: nn.Sequential(nn.Linear(inner, hidden), nn.ReLU(), nn.Linear(hidden, outer))

    def convolutional() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 169, 10)
        )

    return {
        "64-128-10": (perceptron(64, 128, 10), (64,)),
        "50-37-3": (perceptron(50, 37, 3), (50,)),
        "784-512-10": (perceptron(784, 512, 10), (784,)),
        "conv 28x28": (convolutional, (1, 28, 28)),
    }


class OneByOne:
    """All networks, one after another."""

    def __init__(self, networks: Sequence[nn.Module]):
        self._networks = networks

    def __call__(self, x: Tensor) -> list[Tensor]:
        return [network(x) for network in self._networks]


def passes() -> None:
    torch.set_num_threads(1)
    for name, (make, shape) in architectures().items():
        networks = [make().eval() for _ in range(MEMBERS)]
        one_by_one = OneByOne(networks)
        with torch.inference_mode():
            stack = Stack(networks, networks[0].forward)
            for rows in (1, 2, 3, 4, 8, 16, 31, 64):
                x = torch.randn(rows, *shape)
                alone, batched = torch.stack(one_by_one(x)), stack([x])
                worst = float((alone - batched).abs().max())
                faster = least_s(one_by_one, x) / least_s(stack, [x])
                bits = "the same bits" if torch.equal(alone, batched) else f"differs by {worst:.1e} at most"
                print(f"{name:11} {rows:3} rows  one batched pass {faster:4.2f}x as fast, {bits}", flush=True)


def least_s(run: Callable[[Any], object], rows: Any, times: int = 30) -> float:
    found = []
    for _ in range(times):
        started = time.perf_counter()
        run(rows)
        found.append(time.perf_counter() - started)
    return min(found)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--requests", type=int, default=3200)
    options.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    options.add_argument("--passes", action="store_true")
    options.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.serve:
        way, path, *names = arguments.serve
        serve(way, names, Path(path))
    elif arguments.passes:
        passes()
    else:
        with tempfile.TemporaryDirectory(prefix="q") as folder:
            uvloop.run(compare(arguments.rounds, arguments.requests, arguments.clients, Path(folder)))


if __name__ == "__main__":
    main()
