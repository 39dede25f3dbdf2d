"""How long the first commands take: ``python benchmarks/first_steps.py [--runs 5]``; a process of its own each time."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import nn

WIDTH = 5000  # of a layer of 100 MB
SPEC = f"""
name: big
inputs: {{x: {{datatype: FP32, shape: [{WIDTH}]}}}}
members:
  m:
    model: "torch.nn:Linear"
    config: {{in_features: {WIDTH}, out_features: {WIDTH}}}
    weights: m.safetensors
    inputs: [x]
    output: values
fusion: {{rule: mean}}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_file(nn.Linear(WIDTH, WIDTH).state_dict(), folder / "m.safetensors")
        (folder / "big.yaml").write_text(SPEC)
        np.save(folder / "rows.npy", np.zeros((2, WIDTH), np.float32))
        for words in (["--help"], ["validate", "big.yaml"], ["try", "big.yaml", "--input", "rows.npy", "--json"]):
            show(words, [seconds(words, folder) for _ in range(runs)])


def seconds(words: list[str], folder: Path) -> tuple[float, float]:
    command = [str(Path(sys.executable).with_name("quorate")), *words]
    env = {**os.environ, "QUORATE_HOME": str(folder / "home")}
    before = time.perf_counter(), os.times()
    subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - before[0], os.times()
    return wall, sum(after[2:4]) - sum(before[1][2:4])


def show(words: list[str], taken: list[tuple[float, float]]) -> None:
    walls, cpus = zip(*taken, strict=True)
    spread = f"({min(walls):.2f} to {max(walls):.2f})"
    median, cpu = statistics.median(walls), statistics.median(cpus)
    print(f"quorate {' '.join(words):45} {median:5.2f} s {spread}, {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
