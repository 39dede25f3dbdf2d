"""Twice as many requests as members can take: ``overload: shed`` and ``overload: thin`` beside each other.

    OMP_NUM_THREADS=1 python benchmarks/overload.py [--rounds 3] [--seconds 10] [--factor 2]

Three networks of scikit-learn's digits, a small one, a middle one and one that takes most of the time and is best, are
trained and tuned (``overload: thin``), then deployed. How many requests a second are answered in time with
all its members is found by asking for more and more; then both are asked for ``factor`` times that on a fixed
schedule, in turn. An answer is in time when it is there by the deadline, counted by the client from when it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import uvloop
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

import quorate
from quorate.deployments import EnsembleSpec
from quorate.tuning import Labelled

DEADLINE_S, CONNECTIONS, STEP = 0.25, 2048, 1.25
FACTORY = """
from torch import nn

def network(width, layers):
    parts = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 3, padding=1), nn.ReLU()]
    for _ in range(layers):
        parts += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(64 * width, 10))
"""
SIZES = {"small": (6, 0, 8), "middle": (12, 1, 8), "large": (160, 6, 8)}  # width, layers, epochs
SPEC: dict[str, Any] = {
    "name": "digits", "inputs": {"x": {"datatype": "FP32", "shape": [64]}}, "classes": [str(c) for c in range(10)],
    "members": {
        name: {
            "model": "networks:network", "config": {"width": width, "layers": layers}, "inputs": ["x"],
            "weights": f"{name}.safetensors", "max_batch_size": 8, "resources": {"num_cpus": 0.1},
        } for name, (width, layers, _) in SIZES.items()
    },
    "fusion": {"rule": "mean", "deadline_s": DEADLINE_S, "overload": "thin"},
    "serving": {"resources": {"num_cpus": 0.1}},
}  # fmt: skip


class Found(NamedTuple):
    """Of one run: shares of the requests, and of the answers those that are right."""

    in_time: float
    answered: float
    accuracy: float
    members: float


def train(folder: Path, x: torch.Tensor, y: torch.Tensor) -> None:
    scope: dict[str, Any] = {}
    exec(FACTORY, scope)
    (folder / "networks.py").write_text(FACTORY)
    for seed, (name, (width, layers, epochs)) in enumerate(SIZES.items()):
        torch.manual_seed(seed)
        net: nn.Module = scope["network"](width, layers)
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
        save_file(net.state_dict(), folder / f"{name}.safetensors")


class Asking:
    """Requests on a schedule, each on a connection of its own while it is under way."""

    def __init__(self, url: str, rows: np.ndarray, labels: np.ndarray):
        self._host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
        self._port, self._labels = int(port), labels
        bodies = [
            json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": row.tolist()}]}).encode()
            for row in rows
        ]
        head = f"POST /v2/models/digits/infer HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        self._requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]

    def at(self, rate: float, seconds: float) -> Found:
        """Ask for so long, a third of it before anything counts."""
        gc.collect()
        gc.disable()  # to look through all that is under way takes hundreds of milliseconds, in which answers wait
        try:
            return uvloop.run(self._at(rate, seconds))
        finally:
            gc.enable()

    async def _at(self, rate: float, seconds: float) -> Found:
        self._free: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        for _ in range(CONNECTIONS):
            self._free.put_nowait(await asyncio.open_connection(self._host, self._port))
        count, began, asking = round(rate * seconds * 4 / 3), time.perf_counter(), []
        for number in range(count):
            due = began + number / rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            asking.append(asyncio.ensure_future(self._ask(number % len(self._requests), due)))
        ended = (await asyncio.gather(*asking))[count // 4 :]
        while not self._free.empty():
            self._free.get_nowait()[1].close()
        took, members, right = np.array([one for one in ended if one[1]] or [(math.inf, 0, False)]).T
        answered = float((members > 0).sum())
        in_time = float((took <= DEADLINE_S).sum())
        return Found(in_time / len(ended), answered / len(ended), float(right.mean()), float(members.mean()))

    async def _ask(self, row: int, due: float) -> tuple[float, int, bool]:
        """How many seconds it took, how many members answered, 0 where it is refused, and whether it is right."""
        reader, writer = await self._free.get()
        try:
            writer.write(self._requests[row])
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):  # it has been closed for having been idle
            reader, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(self._requests[row])
            head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        took = time.perf_counter() - due
        self._free.put_nowait((reader, writer))
        if not head.startswith(b"HTTP/1.1 200"):
            return took, 0, False
        answer = json.loads(body)
        probabilities = answer["outputs"][0]["data"]
        right = probabilities.index(max(probabilities)) == self._labels[row]
        return took, answer["parameters"]["members_used"].count(",") + 1, bool(right)

    def most(self) -> float:
        """How many a second are nearly all answered in time by all members."""
        rate = 20.0
        while (found := self.at(rate * STEP, 3)).in_time >= 0.99 and found.members >= 0.99 * len(SIZES):
            rate *= STEP
        return rate


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--factor", type=float, default=2.0)
    arguments = options.parse_args()
    digits = load_digits()
    x, y = (digits.data / 16).astype(np.float32), digits.target
    order = np.random.default_rng(0).permutation(len(x))
    train_rows, tune_rows, test_rows = order[:700], order[700:1300], order[1300:]
    with tempfile.TemporaryDirectory(prefix="q") as name:
        folder = Path(name)
        os.environ["QUORATE_HOME"] = str(folder / "home")
        train(folder, torch.from_numpy(x[train_rows]), torch.from_numpy(y[train_rows]))
        rows = Labelled({"x": x[tune_rows]}, y[tune_rows], tuple(SPEC["classes"]))
        tuned = quorate.tune(SPEC, rows, folder=folder, runs=folder / "runs")
        spec = quorate.load_spec(next(tuned.folder.glob("spec-uniform.yaml"), tuned.folder / "spec.yaml"))
        print(json.dumps(spec.output_fusion.thinning.model_dump(), indent=1))
        try:
            found = compare(spec, tuned.folder, x[test_rows], y[test_rows], arguments)
        finally:
            quorate.down()
    print("| overload | answered in time | answered | of these right | members in an answer |")
    for overload, runs in found.items():
        shares = [f"{np.median(of):.3f} ({min(of):.3f} - {max(of):.3f})" for of in zip(*runs, strict=True)]
        print(f"| {overload} | {' | '.join(shares)} |")


def compare(
    spec: EnsembleSpec, folder: Path, rows: np.ndarray, labels: np.ndarray, arguments: argparse.Namespace
) -> dict[str, list[Found]]:
    """Both ways in turn, asked for more than what nearly all of is answered in time."""
    asking = Asking(quorate.deploy(way(spec, "shed"), folder=folder).urls[0], rows, labels)
    most = asking.most()
    print(f"{most:.0f} a second are answered in time by all; {arguments.factor * most:.0f} are asked", flush=True)
    found: dict[str, list[Found]] = {"shed": [], "thin": []}
    for _ in range(arguments.rounds):
        for overload, runs in found.items():
            quorate.deploy(way(spec, overload), folder=folder)
            runs.append(asking.at(arguments.factor * most, arguments.seconds))
    return found


def way(spec: EnsembleSpec, overload: str) -> EnsembleSpec:
    """The spec with another way to take too much load."""
    return spec.model_copy(update={"fusion": spec.output_fusion.model_copy(update={"overload": overload})})


if __name__ == "__main__":
    main()
