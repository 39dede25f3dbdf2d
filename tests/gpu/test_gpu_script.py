"""The script of ``make gpu`` runs unattended: without a GPU it says so, and its parts run on the CPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=500)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so():
    code, said, _ = run()
    assert code == 0
    assert said.startswith("no CUDA device on this machine")


@pytest.mark.slow
def test_all_of_it_is_rehearsed_on_the_cpu():
    code, said, _ = run("--rehearse")
    assert code == 0
    assert "failed" not in said
    assert "was not done" not in said
    for part in ("perceptron x8 float32", "bert-base  x2 bfloat16", "pinning     together, stack: true: 1 processes"):
        assert part in said
