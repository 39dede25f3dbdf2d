"""Requests leave nothing behind in Ray's object store, on its disk, or in shared memory: they never go there."""

from pathlib import Path

import numpy as np
import pytest

from quorate.deployments import Client, parse_spec

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.zeros((8, 2), np.float32)
CPUS = {"num_cpus": 0.1}


@pytest.fixture
def url(cluster):
    from quorate.deployments.control.deploy import delete, deploy

    members = {n: {"model": "known:known", "config": {"shift": 1}, "inputs": ["x"], "output": "values"} for n in "ab"}
    spec = {
        "name": "stored",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {name: {**member, "resources": CPUS} for name, member in members.items()},
        "fusion": {"rule": "mean", "deadline_s": 20.0},
        "serving": {"resources": CPUS},
    }
    yield deploy(parse_spec(spec), FACTORIES).http
    delete("stored")


def stored(cluster):
    """Objects, their bytes and spilled bytes of the node; and files in shared memory."""
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    stats = get_memory_info_reply(get_state_from_address(cluster.get_runtime_context().gcs_address)).store_stats
    shared = {file.name for file in Path("/dev/shm").iterdir() if "plasma" not in file.name}
    return stats.num_local_objects, stats.object_store_bytes_used, stats.spilled_bytes_total, shared


@pytest.mark.parametrize("requests", [500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_requests_leave_nothing_in_the_object_store(cluster, url, requests):
    with Client(url, model="stored") as client:
        client.infer(x=ROWS)
        objects, used, spilled, shared = stored(cluster)
        for _ in range(requests):
            client.infer(x=ROWS)
        found = stored(cluster)
    assert found[0] <= objects + 5  # Serve's own, of its health checks and long polls
    assert found[1] <= used + (1 << 20)
    assert found[2] == spilled
    assert not found[3] - shared


def test_an_object_that_is_kept_is_seen(cluster):
    objects, used, *_ = stored(cluster)
    kept = cluster.put(np.zeros(8 << 20, np.uint8))
    found = stored(cluster)
    assert found[0] > objects
    assert found[1] >= used + (8 << 20)
    del kept
