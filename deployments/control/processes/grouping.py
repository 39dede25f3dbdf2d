"""Which members share a process, and which of those are run inside of fusion replicas: decided when it is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quorate.deployments.records.measurements import Measured, Measurements
from quorate.deployments.spec.checks.check_placement import why_alone, why_not_inside, why_not_with
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import Resources

# Of all that is inside of one fusion replica: each door has its own copy.
INSIDE_BYTES = 256 << 20
_LEAST = 1e-9


@dataclass(frozen=True)
class Group:
    """Members that share a process.

    Attributes:
        members: in the order of their names.
        inside: whether fusion replicas run them.
    """

    members: tuple[str, ...]
    inside: bool = False


def group_members(spec: EnsembleSpec, measured: Measurements) -> list[Group]:
    """Every member of an ensemble, each in one group, which may be of itself alone.

    ``together`` and ``apart`` are done as they say. Of the others those share a process that may, where ``placement``
    says so; where it is ``auto``, those whose pass is shorter than a message, or that share a GPU. What is short
    enough, and small enough, of all of them is inside.
    """
    named = [tuple(sorted(group)) for group in spec.together]
    listed = {name for group in named for name in group} | set(spec.apart)
    free = [name for name in sorted(spec.members) if name not in listed]
    candidates = [name for name in free if _may_join(spec, name, measured)]
    groups = [*named, *_that_fit(spec, candidates)]
    inside = _inside(spec, [name for group in groups for name in group], measured)
    rest = [tuple(name for name in group if name not in inside) for group in groups]
    grouped = {name for group in groups for name in group}
    alone = [(name,) for name in spec.members if name not in grouped]
    found = [Group(members) for members in (*rest, *alone) if members]
    return sorted([*found, *([Group(inside, inside=True)] if inside else [])], key=lambda group: group.members)


def _inside(spec: EnsembleSpec, names: Sequence[str], measured: Measurements) -> tuple[str, ...]:
    """Those that fusion replicas run, all by one thread, as long as there is room."""
    room, inside = INSIDE_BYTES, []
    for name in sorted(names):
        found = measured.members.get(name)
        if found is None or not _is_short(found, measured) or why_not_inside(spec.members[name]):
            continue
        if found.model_bytes <= room:
            room -= found.model_bytes
            inside.append(name)
    return tuple(inside)


def measured_for(spec: EnsembleSpec) -> list[str]:
    """The members whose pass decides where they are run."""
    asked = {name for group in spec.together for name in group}
    if spec.placement != "apart":
        asked |= set(spec.members) - set(spec.apart)
    inside = {name for name in asked if not why_not_inside(spec.members[name])}
    auto = spec.placement == "auto"
    return sorted(inside | {n for n in asked if auto and not why_alone(spec.members[n]) and not _has_gpu(spec, n)})


def resources_of(spec: EnsembleSpec, members: Sequence[str]) -> Resources:
    """What a process of these members holds."""
    first = spec.members[members[0]].resources
    held = [spec.members[name].resources for name in members]
    cpus, gpus = sum(one.num_cpus for one in held), sum(one.num_gpus for one in held)
    return first.model_copy(update={"num_cpus": cpus, "num_gpus": round(gpus, 6)})


def _may_join(spec: EnsembleSpec, name: str, measured: Measurements) -> bool:
    """Whether ``placement`` lets a member that no list names share a process."""
    if spec.placement == "apart" or why_alone(spec.members[name]):
        return False
    if spec.placement == "together":
        return True
    found = measured.members.get(name)
    gpus = spec.members[name].resources.num_gpus
    return 0 < gpus < 1 if gpus else found is not None and _is_short(found, measured)


def _is_short(found: Measured, measured: Measurements) -> bool:
    return found.forward_s < measured.hop_s


def _has_gpu(spec: EnsembleSpec, name: str) -> bool:
    return spec.members[name].resources.num_gpus > 0


def _that_fit(spec: EnsembleSpec, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Members that may share a process with each other, first come first served."""
    groups: list[list[str]] = []
    for name in names:
        member = spec.members[name]
        for group in groups:
            gpus = sum(spec.members[one].resources.num_gpus for one in group) + member.resources.num_gpus
            if gpus <= 1 + _LEAST and not why_not_with(spec.members[group[0]], member):
                group.append(name)
                break
        else:
            groups.append([name])
    return [tuple(group) for group in groups]
