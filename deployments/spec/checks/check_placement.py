"""Which members may share a process: what is asked for is refused in words where they may not."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.model_formats import REMOTE, format_of
from quorate.deployments.spec.schema import EnsembleSchema, MemberSpec
from quorate.deployments.spec.suggestions import suggest

_LEAST = 1e-9


def check_placement(spec: EnsembleSchema) -> None:
    """Raise SpecError where ``together`` and ``apart`` cannot be kept."""
    listed: dict[str, str] = {}
    for field, names in (*((f"together[{n}]", group) for n, group in enumerate(spec.together)), ("apart", spec.apart)):
        for name in names:
            if name not in spec.members:
                raise SpecError(field, f"'{name}' is no member", suggest(name, spec.members))
            if name in listed:
                raise SpecError(field, f"'{name}' is in {listed[name]} too", "list each member once")
            listed[name] = field
    for number, group in enumerate(spec.together):
        _check_group(spec, f"together[{number}]", group)


def _check_group(spec: EnsembleSchema, field: str, group: Sequence[str]) -> None:
    for name in group:
        found = why_alone(spec.members[name])
        if found:
            raise SpecError(field, f"'{name}' {found}", f"take '{name}' out")
    first = group[0]
    for name in group[1:]:
        found = why_not_with(spec.members[first], spec.members[name])
        if found:
            fix = "one process has the same for all: make them the same, or take one out"
            raise SpecError(field, f"'{first}' and '{name}' {found}", fix)
    gpus = sum(spec.members[name].resources.num_gpus for name in group)
    if gpus > 1 + _LEAST:
        found = f"its members ask for {gpus:g} GPUs together, and one process computes on one"
        raise SpecError(field, found, "give them parts of one GPU, or take some out")


def why_alone(member: MemberSpec) -> str:
    """Why a member shares a process with no other; empty where it may."""
    if format_of(member.model) is REMOTE:
        return "is run by another server, and has no process here to share"
    if member.share:
        return "has share: true, and is the same process for several ensembles"
    if member.python is not None:
        return "runs in another interpreter, which is a process of its own"
    return ""


def why_not_with(one: MemberSpec, other: MemberSpec) -> str:
    """What keeps two members, each of which may share a process, from sharing one; empty for nothing."""
    if one.replicas != other.replicas:
        return "have different replicas"
    for field in ("accelerator_type", "labels"):
        if getattr(one.resources, field) != getattr(other.resources, field):
            return f"have different resources.{field}"
    if bool(one.resources.num_gpus) != bool(other.resources.num_gpus):
        return "ask for a GPU and for none"
    if (one.max_memory_bytes is None) != (other.max_memory_bytes is None):
        return "have max_memory_bytes and none"
    return ""


def why_not_inside(member: MemberSpec) -> str:
    """Why a member is not run inside of fusion replicas, however short its passes are; empty where it may be."""
    alone = why_alone(member)
    if alone:
        return alone
    if member.resources.num_gpus:
        return "asks for a GPU"
    if member.resources.accelerator_type or member.resources.labels:
        return "asks for nodes of a kind"
    if member.max_memory_bytes is not None:
        return "has max_memory_bytes, and what holds more is replaced"
    if member.replicas.max > 1:
        return "has replicas of its own"
    return ""
