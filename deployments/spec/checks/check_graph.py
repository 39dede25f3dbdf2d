"""What the nodes of the graph must be to each other: names, cycles, nothing unread, inner fusions done in time."""

from __future__ import annotations

import math
from graphlib import CycleError, TopologicalSorter

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.schema import EnsembleSchema
from quorate.fusion.registry import RULES


def check_names(spec: EnsembleSchema) -> None:
    owners: dict[str, str] = {}
    for kind, names in (("inputs", spec.inputs), ("members", spec.members), ("fusions", spec.all_fusions)):
        for name in names:
            if name in owners:
                raise SpecError(
                    f"{kind}.{name}", f"the name is taken by {owners[name]}.{name}", "names are one space: rename one"
                )
            owners[name] = kind
    if spec.name in owners:
        raise SpecError(
            "name", f"'{spec.name}' is also in {owners[spec.name]}", "rename one: both are served as models"
        )


def check_cycles(spec: EnsembleSchema) -> None:
    try:
        TopologicalSorter(_edges(spec)).prepare()
    except CycleError as error:
        raise SpecError("members", f"the graph has a cycle: {' -> '.join(error.args[1])}", "break it") from None


def check_graph(spec: EnsembleSchema) -> None:
    read = {source for sources in _edges(spec).values() for source in sources}
    for name in spec.members:
        if name not in read:
            raise SpecError(f"members.{name}", "nothing reads it", "add it to a fusion's members, or remove it")
    fusions = spec.all_fusions.values()
    gates = {one.options.get("input_name") for one in fusions if one.rule in RULES and RULES[one.rule].reads_inputs}
    for name in spec.inputs:
        if name not in read | gates | {spec.lengths}:
            raise SpecError(f"inputs.{name}", "no member reads it", "add it to a member's inputs, or remove it")


def check_inner(spec: EnsembleSchema) -> None:
    """Fusions that members read must be done before the answer is due; others must be the answer."""
    read = {source for member in spec.members.values() for source in member.inputs}
    for name, fusion in spec.all_fusions.items():
        if name not in read and name not in spec.output_names:
            found = f"no member reads it, and the answer is '{', '.join(spec.output_names)}'"
            fix = f"add it to outputs: {name}" if spec.outputs else f"write output: {name}"
            raise SpecError(f"fusions.{name}", found, f"remove it, or {fix}")
        above = [spec.all_fusions[one].deadline_s for one in spec.output_names if name in spec.upstream(one)]
        limit = min(above, default=math.inf)
        if fusion.deadline_s >= limit:
            found = f"{fusion.deadline_s:g} s leaves no time for its readers: the answer is due after {limit:g} s"
            raise SpecError(f"fusions.{name}.deadline_s", found, "make it shorter, or leave it out for a fair share")


def _edges(spec: EnsembleSchema) -> dict[str, set[str]]:
    return {name: set(spec.sources(name)) for name in (*spec.members, *spec.all_fusions)}
