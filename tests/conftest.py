"""One local Ray cluster per test session, started by the first test that needs it."""

import logging
import os

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

LOGICAL_GPUS = 4


def pytest_itemcollected(item):
    """Whatever needs the cluster is of the outer ring."""
    if "cluster" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    import ray
    from ray import serve

    from quorate.deployments.control.forked_workers import REPLICA_MODULES
    from quorate.deployments.control.ray_private import without_log_monitor
    from quorate.deployments.fork_server.command import nodes_that_fork
    from quorate.tuning.ray_session import MODULES

    modules = (*REPLICA_MODULES, *MODULES)
    with without_log_monitor(), nodes_that_fork(tmp_path_factory.mktemp("node"), modules) as labels:
        ray.init(
            num_cpus=32,
            num_gpus=LOGICAL_GPUS,
            labels=labels,
            object_store_memory=256 << 20,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(proxy_location="Disabled")
    yield ray
    serve.shutdown()
    ray.shutdown()
