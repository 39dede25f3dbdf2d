"""One local Ray cluster per test session, started by the first test that needs it."""

import logging
import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's doing, and proves nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Ray and Serve read these when they are imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# What members write is kept where it outlives their cluster: for the tests', no longer than they run.
_STATE = tempfile.TemporaryDirectory(prefix="quorate-tests-")
os.environ.setdefault("QUORATE_HOME", _STATE.name)

LOGICAL_GPUS = 4


def pytest_itemcollected(item):
    """Whatever needs the cluster is of the outer ring."""
    if "cluster" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    import ray
    from ray import serve

    from quorate.deployments.control.forked_workers import REPLICA_MODULES, start_ray
    from quorate.tuning.ray_session import MODULES

    size = {"num_cpus": 32, "num_gpus": LOGICAL_GPUS, "object_store_memory": 256 << 20}
    start_ray(tmp_path_factory.mktemp("node"), (*REPLICA_MODULES, *MODULES), **size)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(proxy_location="Disabled")
    yield ray
    serve.shutdown()
    ray.shutdown()
