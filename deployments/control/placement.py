"""Which replica goes on which node: computed before anything starts, from what each node has free now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from quorate.deployments.control.ray_private import count_gpus, free_per_node
from quorate.deployments.spec.schema import Resources

LOGICAL_GPUS = 8
_LEAST = 1e-9
Action = Literal["stays", "starts", "starts beside the old one", "takes the old one's place", "runs inside the doors"]


@dataclass(frozen=True)
class Node:
    """What one node offers: CPUs and GPUs (logical ones count), its accelerator type and labels.

    Attributes:
        name: its address.
        node_id: as Ray calls it.
    """

    name: str
    cpus: float
    gpus: float
    accelerator_type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    node_id: str = ""


@dataclass(frozen=True)
class Wanted:
    """A replica to place.

    Attributes:
        part: the member, or what else it is of.
        node: the only node that it may be on; any when empty.
    """

    part: str
    replica: int
    resources: Resources
    node: str = ""


@dataclass(frozen=True)
class Placed:
    """One replica's place: the node; ``problem`` says why there is none."""

    part: str
    replica: int
    node: str = ""
    problem: str = ""


@dataclass(frozen=True)
class PlannedApp:
    """An application of the ensemble as it will be.

    Attributes:
        part: the members, or ``doors`` of a node.
        why: what has changed, where an old one is followed; ``shared`` of one that another ensemble has started; and
            what it means that members share a process.
        places: of its first replicas; none where it stays.
        replaces: the old applications whose place it takes.
    """

    part: str
    app: str
    action: Action
    why: str
    places: tuple[Placed, ...]
    replaces: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Why there is no place for it; empty for none."""
        return next((place.problem for place in self.places if place.problem), "")


class Rooms:
    """What nodes have left while replicas are placed on them one after another."""

    def __init__(self, nodes: Sequence[Node]):
        self._nodes = list(nodes)

    def place(self, wanted: Sequence[Wanted]) -> list[Placed]:
        """Place replicas, the largest GPU need first; in the order in which they were given.

        Ray schedules in its own order: this shows that all fit, not on which of two equal nodes each will be.
        """
        found = {id(one): self._place(one) for one in sorted(wanted, key=lambda one: -one.resources.num_gpus)}
        return [found[id(one)] for one in wanted]

    def give_back(self, node_id: str, resources: Resources) -> None:
        """Count what a replica holds, that will be stopped, as free."""
        for index, node in enumerate(self._nodes):
            if node.node_id == node_id:
                cpus, gpus = node.cpus + resources.num_cpus, node.gpus + resources.num_gpus
                self._nodes[index] = replace(node, cpus=cpus, gpus=gpus)

    def copy(self) -> Rooms:
        """The same, to try something."""
        return Rooms(self._nodes)

    def _place(self, one: Wanted) -> Placed:
        right = [i for i, n in enumerate(self._nodes) if one.node in ("", n.name) and matches(one.resources, n)]
        for index in right:
            node = self._nodes[index]
            if node.cpus >= one.resources.num_cpus - _LEAST and _has_gpus(one.resources.num_gpus, node.gpus):
                cpus, gpus = node.cpus - one.resources.num_cpus, node.gpus - one.resources.num_gpus
                self._nodes[index] = replace(node, cpus=cpus, gpus=gpus)
                return Placed(one.part, one.replica, node.name)
        return Placed(one.part, one.replica, problem=_problem(one.resources, [self._nodes[i] for i in right]))


def matches(resources: Resources, node: Node) -> bool:
    """Whether a node is of the kind that is asked for."""
    typed = resources.accelerator_type in (None, node.accelerator_type)
    return typed and all(node.labels.get(key) == value for key, value in resources.labels.items())


def _has_gpus(wanted: float, free: float) -> bool:
    """Whether a node has GPUs left, as far as their sum tells: Ray does not say which parts are of one GPU."""
    return free >= wanted - _LEAST if wanted <= 1 else int(free + _LEAST) >= wanted


def _problem(resources: Resources, right: Sequence[Node]) -> str:
    if not right:
        asked = [resources.accelerator_type or "", *(f"{k}={v}" for k, v in resources.labels.items())]
        return f"no node has {', '.join(filter(None, asked)) or 'room'}"
    most_cpus = max(node.cpus for node in right)
    if most_cpus < resources.num_cpus:
        return f"needs {resources.num_cpus:g} CPUs, the node with most has {most_cpus:g} free"
    most_gpus = max(node.gpus for node in right)
    return f"needs {resources.num_gpus:g} GPUs, the node with most has {most_gpus:g} free"


def nodes_alive() -> list[Node]:
    """The nodes of the cluster this process is connected to, with all they have, used or not."""
    import ray

    return [_node(found, found["Resources"]) for found in ray.nodes() if found["Alive"]]


def nodes_free() -> list[Node]:
    """The same, with what is free of it now."""
    import ray

    free = free_per_node()
    return [_node(found, free.get(found["NodeID"], {})) for found in ray.nodes() if found["Alive"]]


def _node(found: Mapping[str, Any], resources: Mapping[str, float]) -> Node:
    types = [key.partition(":")[2] for key in found["Resources"] if key.startswith("accelerator_type:")]
    return Node(
        found["NodeManagerAddress"], resources.get("CPU", 0.0), resources.get("GPU", 0.0),
        types[0] if types else "", found.get("Labels", {}), found["NodeID"],
    )  # fmt: skip


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
