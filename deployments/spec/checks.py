"""What a spec must hold beyond the type of each field. The first mistake is raised, with its field and its fix."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.check_calibration import check_calibration
from quorate.fusion.registry import RULES, RuleEntry

if TYPE_CHECKING:
    from quorate.deployments.spec.schema import EnsembleSchema, FusionSpec, MemberSpec, Resources


def check(spec: EnsembleSchema) -> None:
    """Raise SpecError for the first mistake found."""
    _check_tensors(spec)
    _check_classes("classes", spec.classes)
    _check_names(spec)
    for name, member in spec.members.items():
        _check_member(spec, name, member)
    _check_cycles(spec)
    if bool(spec.fusion) == bool(spec.fusions):
        found = "both fusion and fusions are given" if spec.fusion else "there is no fusion"
        raise SpecError("fusion", found, "give either fusion (one rule) or fusions (several by name)")
    for name, fusion in spec.all_fusions.items():
        _check_fusion(spec, "fusion" if spec.fusion else f"fusions.{name}", fusion)
    if spec.output and spec.output not in spec.all_fusions:
        raise SpecError("output", f"'{spec.output}' is not a fusion", _choose(spec.output, spec.all_fusions))
    _check_graph(spec)
    _check_inner(spec)
    _check_resources("serving.resources", spec.serving.resources)
    _check_range("serving.replicas", spec.serving.replicas.min, spec.serving.replicas.max)


def _choose(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"choose from {', '.join(known)}"


def _check_tensors(spec: EnsembleSchema) -> None:
    for name, tensor in spec.inputs.items():
        if 0 in tensor.shape:
            raise SpecError(
                f"inputs.{name}.shape", f"{list(tensor.shape)} holds no element", "use sizes above 0, or -1"
            )


def _check_classes(field: str, classes: tuple[str, ...] | None) -> None:
    if classes is None:
        return
    if not classes:
        raise SpecError(field, "the list is empty", "name the classes, or leave the field out")
    twice = sorted({c for c in classes if classes.count(c) > 1})
    if twice:
        raise SpecError(field, f"{', '.join(twice)} stands there twice", "name each class once")


def _check_names(spec: EnsembleSchema) -> None:
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


def _check_member(spec: EnsembleSchema, name: str, member: MemberSpec) -> None:
    field = f"members.{name}"
    _check_model(field, member)
    for source in member.inputs:
        if source == name:
            raise SpecError(f"{field}.inputs", f"'{name}' reads itself", "remove it")
        known = {**spec.inputs, **spec.members, **spec.all_fusions}
        if source not in known:
            raise SpecError(
                f"{field}.inputs", f"'{source}' is no input, member or fusion", _choose(source, set(known) - {name})
            )
    if len(set(member.inputs)) < len(member.inputs):
        raise SpecError(f"{field}.inputs", f"{list(member.inputs)} names one twice", "name each once")
    _check_classes(f"{field}.classes", member.classes)
    _check_member_classes(spec, field, member)
    _check_resources(f"{field}.resources", member.resources)
    _check_range(f"{field}.replicas", member.replicas.min, member.replicas.max)


def _check_model(field: str, member: MemberSpec) -> None:
    if member.model.endswith((".pt2", ".onnx")):
        if member.weights:
            raise SpecError(f"{field}.weights", f"{member.model} already holds its weights", "remove weights")
        if member.config:
            raise SpecError(f"{field}.config", f"{member.model} takes no config", "remove config")
        return
    module, colon, attribute = member.model.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        fix = "write package.module:factory, or the path of a .pt2 or .onnx file"
        raise SpecError(f"{field}.model", f"'{member.model}' is no model", fix)
    if member.weights and not member.weights.endswith(".safetensors"):
        fix = "save the state dict with safetensors.torch.save_file; pickles can run code and are refused"
        raise SpecError(f"{field}.weights", f"'{member.weights}' is not a .safetensors file", fix)
    if member.digest and not member.weights:
        raise SpecError(
            f"{field}.digest", "there is no weights file to compare it with", "add weights or remove digest"
        )


def _check_member_classes(spec: EnsembleSchema, field: str, member: MemberSpec) -> None:
    if member.classes is None:
        return
    if member.output not in ("logits", "probabilities"):
        raise SpecError(f"{field}.classes", f"output is '{member.output}', which has none", "remove classes")
    if spec.classes is None:
        raise SpecError(f"{field}.classes", "the ensemble has no classes", "add classes at the top of the spec")
    unknown = [c for c in member.classes if c not in spec.classes]
    if unknown:
        raise SpecError(
            f"{field}.classes",
            f"{', '.join(unknown)} is not among the ensemble's classes",
            _choose(unknown[0], spec.classes),
        )


def _check_fusion(spec: EnsembleSchema, field: str, fusion: FusionSpec) -> None:
    entry = RULES.get(fusion.rule)
    if entry is None:
        raise SpecError(f"{field}.rule", f"there is no rule '{fusion.rule}'", _choose(fusion.rule, RULES))
    if not fusion.members:
        raise SpecError(f"{field}.members", "it fuses nobody", "name the members to fuse")
    _check_subset(f"{field}.members", fusion.members, spec.members)
    _check_subset(f"{field}.required", fusion.required, fusion.members)
    for name in fusion.members:
        output = spec.members[name].output
        if output not in entry.reads:
            fix = f"give the member output: {' or '.join(entry.reads)}, or choose another rule"
            raise SpecError(f"{field}.members", f"rule '{fusion.rule}' cannot read the {output} of '{name}'", fix)
    for option in fusion.options:
        if option not in entry.options:
            fix = _choose(option, entry.options) if entry.options else "remove it"
            raise SpecError(f"{field}.options.{option}", f"rule '{fusion.rule}' has no such option", fix)
    if fusion.rule == "gate":
        _check_gate(field, fusion, spec)
    if entry.learned and not fusion.state:
        raise SpecError(f"{field}.state", f"rule '{fusion.rule}' is learned", "name its safetensors file")
    _check_weights(field, fusion, entry)
    check_calibration(spec, field, fusion, entry)
    counted = sum(1 for name in fusion.members if fusion.weights is None or fusion.weights[name] > 0)
    if fusion.quorum > counted:
        found = f"{fusion.quorum} members must answer but only {counted} are fused"
        raise SpecError(f"{field}.quorum", found, f"use at most {counted}; a member of weight 0 does not count")


def _check_gate(field: str, fusion: FusionSpec, spec: EnsembleSchema) -> None:
    name = fusion.options.get("input_name")
    if not isinstance(name, str) or name not in spec.inputs:
        raise SpecError(f"{field}.options.input_name", f"{name!r} is no request input", _choose(str(name), spec.inputs))
    if spec.inputs[name].datatype == "BYTES":
        raise SpecError(f"{field}.options.input_name", f"'{name}' is BYTES", "let the gate read numbers")


def _check_subset(field: str, names: tuple[str, ...], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise SpecError(field, f"'{name}' is no member here", _choose(name, known))
    if len(set(names)) < len(names):
        raise SpecError(field, f"{list(names)} names one twice", "name each once")


def _check_weights(field: str, fusion: FusionSpec, entry: RuleEntry) -> None:
    weights: Mapping[str, float] | None = fusion.weights
    if weights is None:
        if entry.needs_weights:
            fix = f"give each member one, or use rule: {entry.needs_weights}"
            raise SpecError(f"{field}.weights", f"{fusion.rule} has no weights", fix)
        return
    if not entry.weighted:
        raise SpecError(
            f"{field}.weights", f"rule '{fusion.rule}' does not read weights", "remove them or change the rule"
        )
    _check_subset(f"{field}.weights", tuple(weights), fusion.members)
    for name in fusion.members:
        weight = weights.get(name)
        if weight is None:
            raise SpecError(
                f"{field}.weights.{name}", "the weight is missing", "give every fused member a weight, 0 to mute it"
            )
        if not math.isfinite(weight) or weight < 0:
            raise SpecError(f"{field}.weights.{name}", f"the weight is {weight}", "use a finite number >= 0")
    if sum(weights.values()) <= 0:
        raise SpecError(f"{field}.weights", "all weights are 0", "give at least one member a weight above 0")


def _edges(spec: EnsembleSchema) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {name: set(member.inputs) for name, member in spec.members.items()}
    edges.update({name: set(fusion.members) for name, fusion in spec.all_fusions.items()})
    return edges


def _check_cycles(spec: EnsembleSchema) -> None:
    try:
        TopologicalSorter(_edges(spec)).prepare()
    except CycleError as error:
        raise SpecError("members", f"the graph has a cycle: {' -> '.join(error.args[1])}", "break it") from None


def _check_graph(spec: EnsembleSchema) -> None:
    read = {source for sources in _edges(spec).values() for source in sources}
    for name in spec.members:
        if name not in read:
            raise SpecError(f"members.{name}", "nothing reads it", "add it to a fusion's members, or remove it")
    gates = {fusion.options.get("input_name") for fusion in spec.all_fusions.values() if fusion.rule == "gate"}
    for name in spec.inputs:
        if name not in read | gates:
            raise SpecError(f"inputs.{name}", "no member reads it", "add it to a member's inputs, or remove it")


def _check_inner(spec: EnsembleSchema) -> None:
    """Fusions that members read must be done before the answer is due; others must be the answer."""
    read = {source for member in spec.members.values() for source in member.inputs}
    limit = spec.output_fusion.deadline_s
    for name, fusion in spec.all_fusions.items():
        if name == spec.output_name:
            continue
        if name not in read:
            found = f"no member reads it, and the answer is '{spec.output_name}'"
            raise SpecError(f"fusions.{name}", found, f"remove it, or write output: {name}")
        if fusion.deadline_s >= limit:
            found = f"{fusion.deadline_s:g} s leaves no time for its readers: the answer is due after {limit:g} s"
            raise SpecError(f"fusions.{name}.deadline_s", found, "make it shorter, or leave it out for a fair share")


def _check_resources(field: str, resources: Resources) -> None:
    if resources.num_gpus > 1 and resources.num_gpus != int(resources.num_gpus):
        found = f"{resources.num_gpus} cannot be placed"
        raise SpecError(f"{field}.num_gpus", found, "use a fraction below 1, or a whole number")
    if resources.accelerator_type and not resources.num_gpus:
        raise SpecError(f"{field}.accelerator_type", "num_gpus is 0", "ask for num_gpus above 0, or remove it")


def _check_range(field: str, low: int, high: int) -> None:
    if low > high:
        raise SpecError(field, f"min {low} is above max {high}", "raise max or lower min")
