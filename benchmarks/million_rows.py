"""The choice over all alternatives where there are a million rows: how long it takes, and how much memory.

    python benchmarks/million_rows.py [--rows 1000000] [--members 20] [--folder DIR]

Predictions of simulated members are written to files first; the members look their rows up there. Of the process the
memory that is its own is measured (RssAnon: what is mapped from the store's files is not), sampled 50 times a second,
and compared with what it holds after the same choice over 2,000 rows, which loads all libraries.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from quorate.deployments import parse_spec
from quorate.tuning import Labelled, tune_fusion

CLASSES, BLOCK, JUDGED = 10, 50_000, 100_000
FACTORY = """
import numpy as np

def looked_up(path):
    held = np.load(path, mmap_mode="r")
    return lambda number: held[number[:, 0]]
"""


def own_bytes() -> int:
    """Memory of this process that is mapped from no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


class Watch:
    """The most memory of each step, and when it began."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float, int]] = [("start", time.perf_counter(), own_bytes())]
        self._over = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def begin(self, step: str) -> None:
        self.steps.append((step, time.perf_counter(), own_bytes()))

    def end(self) -> None:
        self._over.set()

    def _sample(self) -> None:
        while not self._over.wait(0.02):
            step, began, most = self.steps[-1]
            self.steps[-1] = (step, began, max(most, own_bytes()))


def write_members(folder: Path, members: int, rows: int) -> np.ndarray:
    """One file a member of (rows, C) probabilities; returns the labels."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, rows)
    skill, sharp = random.uniform(0.5, 2.5, members), random.uniform(0.5, 2.0, members)
    files = [
        np.lib.format.open_memmap(folder / f"m{n}.npy", mode="w+", dtype=np.float32, shape=(rows, CLASSES))
        for n in range(members)
    ]
    for at in range(0, rows, BLOCK):
        block = labels[at : at + BLOCK]
        common = random.normal(size=(len(block), CLASSES))
        for n, file in enumerate(files):
            logits = random.normal(size=common.shape) + common
            logits[np.arange(len(block)), block] += skill[n]
            exps = np.exp(sharp[n] * logits)
            file[at : at + BLOCK] = exps / exps.sum(axis=1, keepdims=True)
    return labels


def tune(folder: Path, members: int, rows: int, say: Callable[[str], None]) -> str:
    """The verdict."""
    labels = write_members(folder, members, rows + JUDGED)
    (folder / "million_rows_members.py").write_text(FACTORY)
    spec = parse_spec(
        {
            "name": "million",
            "inputs": {"number": {"datatype": "INT64", "shape": [1]}},
            "classes": [str(c) for c in range(CLASSES)],
            "members": {
                f"m{n}": {
                    "model": "million_rows_members:looked_up", "config": {"path": str(folder / f"m{n}.npy")},
                    "inputs": ["number"], "output": "probabilities", "max_batch_size": 10_000,
                }
                for n in range(members)
            },
            "fusion": {"rule": "mean"},
        }
    )  # fmt: skip
    numbers = np.arange(rows + JUDGED)[:, None]
    names = tuple(str(c) for c in range(CLASSES))
    solve = Labelled({"number": numbers[:rows]}, labels[:rows], names)
    judge = Labelled({"number": numbers[rows:]}, labels[rows:], names)
    say("members answer")
    result = tune_fusion(spec, folder, solve, judge, runs=folder / "runs", on_step=say)
    return result.choice.verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="for what is written; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        tune(Path(place), arguments.members, 2000, lambda step: None)
    watch = Watch()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        verdict = tune(Path(place), arguments.members, arguments.rows, watch.begin)
    watch.begin("end")
    watch.end()
    first = watch.steps[1][2]
    for (step, began, most), (_, until, _) in zip(watch.steps[1:], watch.steps[2:], strict=False):
        print(f"{step:50} {until - began:7.1f} s  {(most - first) / 1e6:7.0f} MB more at most")
    print(f"predictions: {arguments.rows * arguments.members * CLASSES * 4 / 1e6:.0f} MB")
    print(verdict)


if __name__ == "__main__":
    main()
