"""The Ray cluster a search runs on: the one this process is connected to, or one of its own for as long as it lasts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quorate.deployments.control.forked_workers import start_ray
from quorate.deployments.control.placement import logical_gpus
from quorate.deployments.control.ray_private import on_loopback
from quorate.deployments.spec.schema import Resources
from quorate.tuning.errors import SweepError

# What a search's workers import; the first of them because every optimizer of torch does.
MODULES = (
    "torch._dynamo",
    "quorate.tuning.predictions.run_on_ray",
    "quorate.tuning.search.members.member_trial",
    "quorate.tuning.search.structures.structure_trial",
)


@contextmanager
def ray_session() -> Iterator[None]:
    """Be connected while the context lasts; what was connected before stays so."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        with on_loopback():
            start_ray(Path(folder), MODULES, num_gpus=logical_gpus())
        try:
            yield
        finally:
            ray.shutdown()


def use_own_cpus(resources: Resources) -> None:
    """Have torch use as many threads as Ray gives this worker CPUs."""
    import torch

    torch.set_num_threads(max(1, int(resources.num_cpus)))


def check_room(resources: Resources) -> None:
    """Refuse resources that no node has: Ray would wait for such a node.

    Raises:
        SweepError: with what the largest node has.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, wanted in (("CPU", resources.num_cpus), ("GPU", resources.num_gpus)):
        most = max((float(node.get(name, 0)) for node in nodes), default=0.0)
        if wanted > most:
            raise SweepError(f"{wanted:g} {name} for a worker", f"no node has more than {most:g}", "ask for less")
