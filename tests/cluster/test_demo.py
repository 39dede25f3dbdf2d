"""The demo is the whole loop: what it serves is what was tuned, and tuning was worth it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.docs]

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"


def demo(*words):
    command = [sys.executable, "-c", "from quorate.cluster.cli.main import main; main()", "demo", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, env={**os.environ, "TMPDIR": "/tmp"})
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check_served(report, requests):
    served = report["served"]
    assert (served["requests"], served["errors"], served["mismatches"]) == (requests, 0, 0)
    assert 0 < served["p50_ms"] <= served["p99_ms"]


def test_the_recommended_ensemble_beats_every_member_on_digits():
    report = demo()
    check_served(report, 360)
    found = report["alternatives"]
    assert {"cnn", "rnn", "transformer", "uniform", "tuned", "stacking", "class_frequencies"} <= set(found)
    assert report["decision"] == "ensemble"
    best = found[report["recommended"]]
    assert best["log_loss"] < min(one["log_loss"] for one in found.values() if one["kind"] == "single")
    assert report["accuracy"][report["recommended"]] >= max(
        report["accuracy"][n] for n in ("cnn", "rnn", "transformer")
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST files are not beside this checkout")
def test_the_demo_runs_on_mnist_files():
    report = demo("--data", str(MNIST))
    check_served(report, 2000)
    assert report["accuracy"][report["recommended"]] > 0.95
