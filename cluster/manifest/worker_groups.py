"""Which worker pods an ensemble needs: its replicas packed into pods, by the kind of node that they ask for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quorate.deployments.control.processes.grouping import group_members, resources_of
from quorate.deployments.errors import DeployError
from quorate.deployments.records.measurements import Measurements
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.named_files import files_in, found_files, member_files
from quorate.deployments.spec.schema import Resources

_GIB = 1 << 30
_LEAST = 1e-9
# What Ray's own processes of a node take, and a fusion replica, or a member beside its weights.
_NODE_BYTES, _REPLICA_BYTES = 2 * _GIB, _GIB


@dataclass(frozen=True)
class WorkerGroup:
    """Pods of one kind.

    Attributes:
        accelerator_type: as Ray calls it; empty for any.
        labels: Ray node labels that its nodes must have.
        cpus, gpus, memory_bytes: of one pod.
        most: how many there are when every member has its ``replicas.max``; all above ``least`` come and go.
        doors: whether its pods get doors.
        parts: the members that its first pods hold.
    """

    name: str
    accelerator_type: str
    labels: Mapping[str, str]
    cpus: int
    gpus: int
    memory_bytes: int
    least: int
    most: int
    doors: bool
    parts: tuple[str, ...]


@dataclass(frozen=True)
class _Wanted:
    """A replica to place."""

    part: str
    resources: Resources
    memory_bytes: int


@dataclass
class _Pod:
    """What a pod has left of each GPU, and what it holds.

    Attributes:
        cpus: that its replicas hold.
    """

    gpus: list[float]
    cpus: float = 0.0
    memory_bytes: int = 0
    parts: list[str] = field(default_factory=list)

    def take(self, one: _Wanted, most_cpus: float) -> bool:
        """Hold a replica, if there is room for it."""
        wanted = one.resources.num_gpus
        free = [place for place, left in enumerate(self.gpus) if left >= min(wanted, 1.0) - _LEAST]
        needed = math.ceil(wanted) if wanted else 0
        if len(free) < needed or self.cpus + one.resources.num_cpus > most_cpus + _LEAST:
            return False
        for place in free[:needed]:
            self.gpus[place] -= min(wanted, 1.0)
        self.cpus += one.resources.num_cpus
        self.memory_bytes += one.memory_bytes
        self.parts.append(one.part)
        return True


def worker_groups(spec: EnsembleSpec, folder: Path, gpus_per_worker: int, cpus_per_worker: int) -> list[WorkerGroup]:
    """Pods for all replicas, fewest where each has ``replicas.min``, most where it has ``replicas.max``.

    Every pod that may hold a fusion replica has room for one beside what it is there for.

    Args:
        folder: what the spec's relative paths start from, for the sizes of files.
        gpus_per_worker: of a pod that has any, unless one replica needs more; likewise ``cpus_per_worker`` of one
            without.

    Raises:
        DeployError: a replica asks for one and a half GPUs, or similar.
    """
    sizes = {name: _memory_bytes(spec, name, folder) for name in spec.members}
    for name, member in sorted(spec.members.items()):
        _check_gpus(name, member.resources.num_gpus)
    kinds: dict[tuple[str, tuple[tuple[str, str], ...], bool], list[tuple[str, ...]]] = {}
    for group in group_members(spec, Measurements()):  # what is inside of doors later needs no room of its own
        asked = resources_of(spec, group.members)
        kind = asked.accelerator_type or "", tuple(sorted(asked.labels.items())), asked.num_gpus > 0
        kinds.setdefault(kind, []).append(group.members)
    if not any(_may_have_doors(spec.serving.resources, *kind) for kind in kinds):
        asked = spec.serving.resources
        kinds[asked.accelerator_type or "", tuple(sorted(asked.labels.items())), asked.num_gpus > 0] = []
    groups: list[WorkerGroup] = []
    for kind, processes in kinds.items():
        name = _group_name(kind[0] or ("gpu" if kind[2] else "cpu"), [group.name for group in groups])
        groups.append(_group(spec, name, kind, processes, sizes, gpus_per_worker, cpus_per_worker))
    return groups


def _group(
    spec: EnsembleSpec, name: str, kind: tuple[str, tuple[tuple[str, str], ...], bool],
    processes: Sequence[tuple[str, ...]],
    sizes: Mapping[str, int], gpus_per_worker: int, cpus_per_worker: int,
) -> WorkerGroup:  # fmt: skip
    doors = _may_have_doors(spec.serving.resources, *kind)
    door, doors_each = spec.serving.resources, spec.serving.replicas.max if doors else 0
    needs = [resources_of(spec, members) for members in processes]
    door_gpus = math.ceil(door.num_gpus * doors_each)
    gpus = max(gpus_per_worker, *(math.ceil(need.num_gpus) for need in needs), 0) if kind[2] and needs else 0
    most_cpus = math.inf if kind[2] else max([float(cpus_per_worker), *(need.num_cpus for need in needs)])
    least, most = (_pack(_replicas(spec, processes, sizes, at_most), gpus, most_cpus) for at_most in (False, True))
    least = least or [_Pod([])]
    pods = [*least, *most]
    cpus = max(pod.cpus for pod in pods) + door.num_cpus * doors_each
    memory = _NODE_BYTES + doors_each * _REPLICA_BYTES + max(pod.memory_bytes for pod in pods)
    return WorkerGroup(
        name, kind[0], dict(kind[1]), max(1, math.ceil(cpus - _LEAST)), gpus + door_gpus,
        math.ceil(memory / _GIB) * _GIB, len(least), max(len(least), len(most)), doors,
        tuple(name for members in processes for name in members),
    )  # fmt: skip


def _pack(wanted: Iterable[_Wanted], gpus: int, most_cpus: float) -> list[_Pod]:
    """First fit, the largest need first."""
    pods: list[_Pod] = []
    for one in sorted(wanted, key=lambda one: (-one.resources.num_gpus, -one.resources.num_cpus, one.part)):
        if not any(pod.take(one, most_cpus) for pod in pods):
            pods.append(_Pod([1.0] * gpus))
            assert pods[-1].take(one, most_cpus)
    return pods


def _replicas(
    spec: EnsembleSpec, processes: Iterable[tuple[str, ...]], sizes: Mapping[str, int], at_most: bool
) -> Iterable[_Wanted]:
    for members in processes:
        replicas, resources = spec.members[members[0]].replicas, resources_of(spec, members)
        for _ in range(replicas.max if at_most else replicas.min):
            yield _Wanted(", ".join(members), resources, sum(sizes[name] for name in members))


def _may_have_doors(door: Resources, accelerator_type: str, labels: tuple[tuple[str, str], ...], gpus: bool) -> bool:
    typed = door.accelerator_type in (None, accelerator_type or None)
    return typed and door.labels.items() <= dict(labels).items() and (gpus or not door.num_gpus)


def _memory_bytes(spec: EnsembleSpec, name: str, folder: Path) -> int:
    """What a replica may need: as the spec says, else its files twice, as they are read and as they are used."""
    member = spec.members[name]
    if member.max_memory_bytes is not None:
        return member.max_memory_bytes
    paths = (folder / file.path for file in (*member_files(name, member), *found_files(name, member, folder)))
    files = (inner for path in paths if path.exists() for inner in (files_in(path) if path.is_dir() else [path]))
    return _REPLICA_BYTES + 2 * sum(file.stat().st_size for file in files)


def _check_gpus(name: str, gpus: float) -> None:
    if gpus > 1 and gpus != int(gpus):
        raise DeployError(f"members.{name} asks for {gpus:g} GPUs; Ray gives a share of one GPU, or several whole ones")


def _group_name(wanted: str, taken: Sequence[str]) -> str:
    """A DNS label, another for each group."""
    label = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in wanted.lower()).strip("-")
    same = sum(name == label or name.rpartition("-")[0] == label for name in taken)
    return f"{label}-{same + 1}" if same else label
