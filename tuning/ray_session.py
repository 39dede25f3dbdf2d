"""The Ray cluster a search runs on: the one this process is connected to, or one of its own for as long as it lasts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


_NODE = "ray.io/node-id"
_LOOK_TIMEOUT_S = 60.0


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


def check_room(resources: Resources, held: Mapping[str, str] | None = None) -> None:
    """Refuse resources that no node has: Ray would wait for such a node.

    Args:
        held: of the nodes that may be used, as ``held_to`` gives it.

    Raises:
        SweepError: with what the largest node has.
    """
    import ray

    nodes = [
        node for node in ray.nodes() if node["Alive"] and node["NodeID"] in (held or {}).get(_NODE, node["NodeID"])
    ]
    what, fix = ("no node", "ask for less")
    if held:
        what, fix = "no node that sees the run's folder", "ask for less, or give runs a folder that all nodes see"
    for name, wanted in (("CPU", resources.num_cpus), ("GPU", resources.num_gpus)):
        most = max((float(node["Resources"].get(name, 0)) for node in nodes), default=0.0)
        if wanted > most:
            raise SweepError(f"{wanted:g} {name} for a worker", f"{what} has more than {most:g}", fix)


def held_to(folder: Path) -> dict[str, str]:
    """A selector of Ray's labels for workers that read and write in a folder: nodes that see it as this process does.

    Empty where all of them do. What a node has that does not answer in time is not known.
    """
    import ray

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    here, place = ray.get_runtime_context().get_node_id(), folder.resolve()
    look: Any = ray.remote(num_cpus=0, max_retries=0)(_sees)
    names = os.listdir(place)
    asked = {
        look.options(resources={f"node:{address}": 0.001}).remote(place, names): node
        for node, address in nodes.items()
        if node != here
    }
    answered, _ = ray.wait([*asked], num_returns=len(asked), timeout=_LOOK_TIMEOUT_S) if asked else ([], [])
    seeing = [here, *(asked[answer] for answer in answered if _is_yes(answer))]
    return {} if len(seeing) == len(nodes) else {_NODE: f"in({','.join(sorted(seeing))})"}


def _sees(folder: Path, names: Sequence[str]) -> bool:
    """Runs on another node."""
    return folder.is_dir() and set(names) <= set(os.listdir(folder))


def _is_yes(answer: Any) -> bool:
    import ray

    try:
        return bool(ray.get(answer))
    except ray.exceptions.RayError:
        return False
