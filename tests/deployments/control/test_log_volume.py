"""Requests write nothing into the logs of Ray and Serve: what is written in a day fits a disk."""

import math
import time
from pathlib import Path

import numpy as np
import pytest

from quorate.deployments import Client, parse_spec

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.array([[0.5, -1.0]], np.float32)
REQUESTS_PER_S = 100
MOST_BYTES_PER_S = 100e6 / (24 * 60 * 60)


@pytest.fixture
def url(cluster):
    from quorate.deployments.control.deploy import delete, deploy

    member = {"model": "known:known", "config": {"shift": 1}, "inputs": ["x"], "output": "values"}
    spec = {
        "name": "logged",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {name: {**member, "resources": {"num_cpus": 0.1}} for name in "ab"},
        "fusion": {"rule": "mean", "deadline_s": 20.0},
        "serving": {"resources": {"num_cpus": 0.1}},
    }
    yield deploy(parse_spec(spec), FACTORIES).http
    delete("logged")


def written_bytes():
    """What is in all logs of the session now; a file that is written anew each time counts once."""
    from quorate.deployments.control.ray_private import session_folder

    logs = session_folder() / "logs"
    return {path: path.stat().st_size for path in logs.rglob("*") if path.is_file()}


@pytest.mark.parametrize("requests", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_an_ensemble_that_is_asked_writes_less_than_a_hundred_megabytes_a_day(url, requests):
    """Requests come as fast as they are answered; their share of the bytes is that of a hundred a second."""
    with Client(url, model="logged") as client:
        for _ in range(100):
            client.infer(x=ROWS)
        before, began = written_bytes(), time.monotonic()
        for _ in range(requests):
            client.infer(x=ROWS)
        after, seconds = written_bytes(), time.monotonic() - began
    assert any("ServeReplica" in path.name or "replica" in path.name for path in after)
    grown = {path: size - before.get(path, 0) for path, size in after.items() if size > before.get(path, 0)}
    # Once a minute Ray's head and its nodes write down how they are: minutes that have begun count whole.
    seconds = 60 * (math.ceil(max(seconds, requests / REQUESTS_PER_S) / 60) + 1)
    assert sum(grown.values()) < MOST_BYTES_PER_S * seconds, grown
