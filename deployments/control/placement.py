"""Which replica goes on which node: computed before anything starts, from what each node has free now."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from quorate.deployments.control.ray_private import count_gpus, free_per_node
from quorate.deployments.members.gpu_memory import allowed_bytes
from quorate.deployments.memory_budget import free_memory_bytes
from quorate.deployments.records.memory_needs import NOTHING_KNOWN, Needs, gigabytes
from quorate.deployments.spec.schema import Resources

LOGICAL_GPUS = 8
_LEAST = 1e-9
_SMI_TIMEOUT_S = 10.0
Action = Literal["stays", "starts", "starts beside the old one", "takes the old one's place", "runs inside the doors"]


@dataclass(frozen=True)
class Node:
    """What one node offers: CPUs and GPUs (logical ones count), its accelerator type and labels.

    Attributes:
        name: its address.
        node_id: as Ray calls it.
        whole_bytes: of its memory, free or not, as Ray counts it.
        memory_bytes: that processes may take yet; infinity where nobody has asked.
        gpu_bytes: of one of its GPUs, used or not; likewise, and where it has none.
    """

    name: str
    cpus: float
    gpus: float
    accelerator_type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    node_id: str = ""
    whole_bytes: float = 0.0
    memory_bytes: float = math.inf
    gpu_bytes: float = math.inf


@dataclass(frozen=True)
class Wanted:
    """A replica to place.

    Attributes:
        part: the member, or what else it is of.
        node: the only node that it may be on; any when empty.
        needs: of memory.
    """

    part: str
    replica: int
    resources: Resources
    node: str = ""
    needs: Needs = NOTHING_KNOWN


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
        needs: of memory, each of its replicas.
    """

    part: str
    app: str
    action: Action
    why: str
    places: tuple[Placed, ...]
    replaces: tuple[str, ...] = ()
    needs: Needs = NOTHING_KNOWN

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

    def give_back(self, node_id: str, resources: Resources, memory_bytes: int = 0) -> None:
        """Count what a replica holds, that will be stopped, as free."""
        for index, node in enumerate(self._nodes):
            if node.node_id == node_id:
                self._nodes[index] = _with(node, resources, memory_bytes)

    def copy(self) -> Rooms:
        """The same, to try something."""
        return Rooms(self._nodes)

    def _place(self, one: Wanted) -> Placed:
        right = [i for i, n in enumerate(self._nodes) if one.node in ("", n.name) and matches(one.resources, n)]
        for index in right:
            node = self._nodes[index]
            if _has_room(one, node) and _has_memory(one, node):
                self._nodes[index] = _with(node, one.resources, one.needs.memory_bytes, -1)
                return Placed(one.part, one.replica, node.name)
        return Placed(one.part, one.replica, problem=_problem(one, [self._nodes[i] for i in right]))


def matches(resources: Resources, node: Node) -> bool:
    """Whether a node is of the kind that is asked for."""
    typed = resources.accelerator_type in (None, node.accelerator_type)
    return typed and all(node.labels.get(key) == value for key, value in resources.labels.items())


def _with(node: Node, resources: Resources, memory_bytes: float, sign: int = 1) -> Node:
    """The node with so much more free."""
    cpus, gpus = node.cpus + sign * resources.num_cpus, node.gpus + sign * resources.num_gpus
    return replace(node, cpus=cpus, gpus=gpus, memory_bytes=node.memory_bytes + sign * memory_bytes)


def _has_room(one: Wanted, node: Node) -> bool:
    return node.cpus >= one.resources.num_cpus - _LEAST and _has_gpus(one.resources.num_gpus, node.gpus)


def _has_memory(one: Wanted, node: Node) -> bool:
    """Of a GPU a replica may use as large a part of the memory as it holds of the GPU, see ``cap_memory``."""
    allowed = allowed_bytes(one.resources.num_gpus, node.gpu_bytes)
    return node.memory_bytes >= one.needs.memory_bytes and (not one.needs.gpu_bytes or allowed >= one.needs.gpu_bytes)


def _has_gpus(wanted: float, free: float) -> bool:
    """Whether a node has GPUs left, as far as their sum tells: Ray does not say which parts are of one GPU."""
    return free >= wanted - _LEAST if wanted <= 1 else int(free + _LEAST) >= wanted


def _problem(one: Wanted, right: Sequence[Node]) -> str:
    resources, needs = one.resources, one.needs
    if not right:
        asked = [resources.accelerator_type or "", *(f"{k}={v}" for k, v in resources.labels.items())]
        return f"no node has {', '.join(filter(None, asked)) or 'room'}"
    most_cpus = max(node.cpus for node in right)
    if most_cpus < resources.num_cpus:
        return f"needs {resources.num_cpus:g} CPUs, the node with most has {most_cpus:g} free"
    with_room = [node for node in right if _has_room(one, node)]
    if not with_room:
        most_gpus = max(node.gpus for node in right)
        return f"needs {resources.num_gpus:g} GPUs, the node with most has {most_gpus:g} free"
    most = max(allowed_bytes(resources.num_gpus, node.gpu_bytes) for node in with_room)
    if needs.gpu_bytes > most:
        return f"needs {needs}, and num_gpus: {resources.num_gpus:g} allows {gigabytes(most)} of one"
    free = max(node.memory_bytes for node in with_room)
    return f"needs {needs} of memory, the node with most has {gigabytes(free)} free"


def nodes_alive() -> list[Node]:
    """The nodes of the cluster this process is connected to, with all they have, used or not."""
    import ray

    return [_node(found, found["Resources"]) for found in ray.nodes() if found["Alive"]]


def nodes_free() -> list[Node]:
    """The same, with what is free of it now."""
    import ray

    free = free_per_node()
    return [_node(found, free.get(found["NodeID"], {})) for found in ray.nodes() if found["Alive"]]


def with_memory(nodes: Sequence[Node]) -> list[Node]:
    """The same, with what each says of its memory and of its GPUs'.

    Raises:
        DeployError: a node did not answer.
    """
    from quorate.deployments.control.on_each_node import on_each

    told = on_each([node.name for node in nodes], node_memory)
    return [replace(node, memory_bytes=memory, gpu_bytes=gpu) for node, (memory, gpu) in zip(nodes, told, strict=True)]


def node_memory() -> tuple[float, float]:
    """Of this node: what processes may take yet, and the memory of the smallest GPU, infinity where there is none."""
    return float(free_memory_bytes()), min(_gpu_sizes(), default=math.inf)


def _gpu_sizes() -> list[float]:
    """As the driver's own tool says it: torch would make a context on each GPU to know, and keep it."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [float(line) * (1 << 20) for line in said.split() if line.isdigit()]


def _node(found: Mapping[str, Any], resources: Mapping[str, float]) -> Node:
    types = [key.partition(":")[2] for key in found["Resources"] if key.startswith("accelerator_type:")]
    return Node(
        found["NodeManagerAddress"], resources.get("CPU", 0.0), resources.get("GPU", 0.0),
        types[0] if types else "", found.get("Labels", {}), found["NodeID"], found["Resources"].get("memory", 0.0),
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
