"""Which member goes on which node: a plan computed before anything starts, and the reason where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quorate.deployments.control.ray_private import count_gpus
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import Resources

LOGICAL_GPUS = 8


@dataclass(frozen=True)
class Node:
    """What one node offers: free CPUs and GPUs (logical ones count), its accelerator type and labels."""

    name: str
    cpus: float
    gpus: float
    accelerator_type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Placed:
    """One replica's place: the node and the GPUs it holds; ``problem`` says why there is none."""

    member: str
    replica: int
    node: str = ""
    gpu: str = ""
    problem: str = ""


@dataclass
class _Room:
    node: Node
    cpus: float
    gpus: list[float]


def plan(spec: EnsembleSpec, nodes: Sequence[Node]) -> list[Placed]:
    """Place the smallest number of replicas of every member and of the fusion, largest GPU need first.

    Ray schedules in its own order: the plan shows that all fit, not on which of two equal nodes each will be.
    """
    rooms = [_Room(node, node.cpus, [1.0] * int(node.gpus)) for node in nodes]
    wanted = [(name, i, m.resources) for name, m in spec.members.items() for i in range(m.replicas.min)]
    wanted += [(spec.name, i, spec.serving.resources) for i in range(spec.serving.replicas.min)]
    wanted.sort(key=lambda item: -item[2].num_gpus)
    return [_place(name, replica, resources, rooms) for name, replica, resources in wanted]


def _place(name: str, replica: int, resources: Resources, rooms: Sequence[_Room]) -> Placed:
    fitting = [room for room in rooms if matches(resources, room.node)]
    for room in fitting:
        gpus = _take_gpus(resources.num_gpus, room.gpus) if room.cpus >= resources.num_cpus - 1e-9 else None
        if gpus is not None:
            room.cpus -= resources.num_cpus
            return Placed(name, replica, room.node.name, ",".join(map(str, gpus)))
    return Placed(name, replica, problem=_problem(resources, rooms, fitting))


def matches(resources: Resources, node: Node) -> bool:
    """Whether a node is of the kind that is asked for."""
    typed = resources.accelerator_type in (None, node.accelerator_type)
    return typed and all(node.labels.get(key) == value for key, value in resources.labels.items())


def _take_gpus(amount: float, free: list[float]) -> list[int] | None:
    """Indices of the GPUs taken, lowest first; None when they are not free."""
    if amount == 0:
        return []
    if amount < 1:
        for i, left in enumerate(free):
            if left >= amount - 1e-9:
                free[i] -= amount
                return [i]
        return None
    whole = [i for i, left in enumerate(free) if left > 1 - 1e-9][: int(amount)]
    if len(whole) < int(amount):
        return None
    for i in whole:
        free[i] = 0.0
    return whole


def _problem(resources: Resources, rooms: Sequence[_Room], fitting: Sequence[_Room]) -> str:
    if not fitting:
        asked = [resources.accelerator_type or "", *(f"{k}={v}" for k, v in resources.labels.items())]
        return f"no node has {', '.join(filter(None, asked))}"
    most_cpus = max(room.cpus for room in fitting)
    if most_cpus < resources.num_cpus:
        return f"needs {resources.num_cpus:g} CPUs, the node with most has {most_cpus:g} free"
    free = max(sum(room.gpus) for room in rooms)
    return f"needs {resources.num_gpus:g} GPUs, the node with most has {free:g} free"


def inventory() -> list[Node]:
    """The nodes of the cluster this process is connected to, with all they have, used or not."""
    import ray

    nodes = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        resources = node["Resources"]
        types = [key.partition(":")[2] for key in resources if key.startswith("accelerator_type:")]
        nodes.append(
            Node(
                node["NodeManagerAddress"],
                resources.get("CPU", 0.0),
                resources.get("GPU", 0.0),
                types[0] if types else "",
                node.get("Labels", {}),
            )
        )
    return nodes


def logical_gpus() -> int | None:
    """GPUs to start Ray with: those of the machine (None), or logical ones, so that the same spec runs on the CPU."""
    return None if count_gpus() else LOGICAL_GPUS


def actor_options(resources: Resources, node: str = "") -> dict[str, Any]:
    """What one replica holds, as Ray's options.

    Args:
        node: the address of the node that it must run on; any when empty.
    """
    options: dict[str, Any] = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
    if resources.accelerator_type:
        options["accelerator_type"] = resources.accelerator_type
    if resources.labels:
        options["label_selector"] = dict(resources.labels)
    if node:
        options["resources"] = {f"node:{node}": 0.001}  # Ray gives every node this resource, 1.0 of it
    return options
