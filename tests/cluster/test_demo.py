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
    assert sum(report["weights"].values()) == pytest.approx(1, abs=1e-9)
    assert report["gap"] < 1e-4


def test_the_tuned_ensemble_beats_every_member_and_the_uniform_mean_on_digits():
    report = demo()
    check_served(report, 360)
    members = report["members"]
    assert set(members) == set(report["weights"]) == {"cnn", "rnn", "transformer"}
    tuned = report["tuned"]
    assert tuned["log_loss"] < report["uniform"]["log_loss"]
    assert tuned["log_loss"] < min(member["log_loss"] for member in members.values())
    assert tuned["accuracy"] >= max(member["accuracy"] for member in members.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST files are not beside this checkout")
def test_the_demo_runs_on_mnist_files():
    report = demo("--data", str(MNIST))
    check_served(report, 2000)
    assert report["tuned"]["accuracy"] > 0.95
