"""One of a spec's several outputs as an ensemble of its own, and such ensembles put together again."""

from __future__ import annotations

from collections.abc import Mapping

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.spec.named_files import named_files, with_paths
from quorate.tuning.runs.unread import without_the_unread

_OWN = ("classes", "task", "quantiles")


def alone(spec: EnsembleSpec, output: str) -> EnsembleSpec:
    """The ensemble of the same name whose only answer is this output, without what only others read."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    data["fusions"] = {name: _without(_OWN, fusion) for name, fusion in data["fusions"].items()}
    view = spec.view(output)
    data |= {"outputs": [], "output": output, "classes": view.classes, "task": view.task, "quantiles": view.quantiles}
    return parse_spec(without_the_unread(data, [output]))


def with_fusions_of(spec: EnsembleSpec, others: Mapping[str, EnsembleSpec]) -> EnsembleSpec:
    """The spec, some outputs of it fused as in other versions of it; what nothing reads any more goes.

    Args:
        spec: holds all members that the others fuse.
        others: by output, the version.
    """
    data = spec.model_dump(mode="json", exclude_defaults=True)
    for output, other in others.items():
        data["fusions"][output] = other.fusions[output].model_dump(mode="json", exclude_defaults=True)
    return parse_spec(without_the_unread(data, spec.outputs))


def shared_nodes(spec: EnsembleSpec, output: str) -> dict[str, str]:
    """Members and fusions that this output reads and another does too, with that other one's name."""
    mine = spec.upstream(output)
    others = [other for other in spec.outputs if other != output]
    return {node: other for other in others for node in mine & (spec.upstream(other) | {other})}


def put_together(spec: EnsembleSpec, parts: Mapping[str, tuple[EnsembleSpec, str]]) -> EnsembleSpec:
    """The spec, each of these outputs answered as by an ensemble of its own.

    Args:
        parts: by output, that ensemble, and its folder as it is reached from the spec's. Its new members are called as
            no other's; what another output reads too stays as the spec has it.
    """
    data = spec.model_dump(mode="json", exclude_defaults=True)
    for output, (part, place) in parts.items():
        paths = {file.field: f"{place}/{file.path}" for file in named_files(part) if file.inside}
        moved = with_paths(part.model_dump(mode="json", exclude_defaults=True, exclude={"digests"}), paths)
        shared, fusions = shared_nodes(spec, output), moved.get("fusions", {})
        answer = moved["fusion"] if part.fusion else fusions.pop(part.output_name)
        own = {key: value for key, value in data["fusions"][output].items() if key in _OWN}
        data["members"] |= {name: member for name, member in moved["members"].items() if name not in shared}
        data["fusions"] |= {name: fusion for name, fusion in fusions.items() if name not in shared}
        data["fusions"][output] = {**answer, **own}
    return parse_spec(without_the_unread(data, spec.outputs))


def _without(fields: tuple[str, ...], fusion: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in fusion.items() if key not in fields}
