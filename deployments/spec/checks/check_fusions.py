"""What a fusion must hold beyond the type of each field: rule, members, weights, quorum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.checks.check_calibration import check_calibration
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.model_formats import WEIGHTS_SUFFIX
from quorate.deployments.spec.schema import EnsembleSchema
from quorate.deployments.spec.suggestions import suggest
from quorate.fusion.registry import RULES, RuleEntry


def check_fusion(spec: EnsembleSchema, field: str, fusion: FusionSpec) -> None:
    entry = RULES.get(fusion.rule)
    if entry is None:
        raise SpecError(f"{field}.rule", f"there is no rule '{fusion.rule}'", suggest(fusion.rule, RULES))
    if not fusion.members:
        raise SpecError(f"{field}.members", "it has no members", "name the members to fuse")
    _check_subset(f"{field}.members", fusion.members, spec.members)
    _check_subset(f"{field}.required", fusion.required, fusion.members)
    for name in fusion.members:
        output = spec.members[name].output
        if output not in entry.reads:
            fix = f"give the member output: {' or '.join(entry.reads)}, or choose another rule"
            raise SpecError(f"{field}.members", f"rule '{fusion.rule}' cannot read the {output} of '{name}'", fix)
    for option in fusion.options:
        if option not in entry.options:
            fix = suggest(option, entry.options) if entry.options else "remove it"
            raise SpecError(f"{field}.options.{option}", f"rule '{fusion.rule}' has no such option", fix)
    if entry.reads_inputs:
        _check_gate(field, fusion, spec)
    if fusion.state and not fusion.state.endswith(WEIGHTS_SUFFIX):
        fix = "save the rule's state with safetensors.torch.save_file; pickles can run code and are refused"
        raise SpecError(f"{field}.state", f"'{fusion.state}' is not a {WEIGHTS_SUFFIX} file", fix)
    _check_weights(field, fusion, entry)
    check_calibration(spec, field, fusion, entry)
    _check_overload(spec, field, fusion, entry)
    counted = sum(1 for name in fusion.members if fusion.weights is None or fusion.weights[name] > 0)
    if fusion.quorum > counted:
        found = f"{fusion.quorum} members must answer but only {counted} are fused"
        raise SpecError(f"{field}.quorum", found, f"use at most {counted}; a member of weight 0 does not count")


def _check_overload(spec: EnsembleSchema, field: str, fusion: FusionSpec, entry: RuleEntry) -> None:
    steps = tuple(step.without for step in fusion.thinning.steps)
    _check_subset(f"{field}.thinning.steps", steps, [name for name in fusion.members if name not in fusion.required])
    if fusion.overload == "shed":
        return
    if entry.steered:
        found = f"rule '{fusion.rule}' chooses itself whom it asks"
        raise SpecError(f"{field}.overload", found, "remove it, or choose a rule that asks all")
    if spec.outputs or fusion != spec.output_fusion:
        raise SpecError(f"{field}.overload", "it is for the fusion that is the only answer", "remove it here")


def check_learned(spec: EnsembleSchema) -> None:
    """Refuse a learned rule without a state: an ensemble that is not trained yet cannot answer.

    Raises:
        SpecError: names the fusion.
    """
    for name, fusion in spec.all_fusions.items():
        if RULES[fusion.rule].learned and not fusion.state:
            field = spec.field_of(name)
            fix = "name its safetensors file, or make one: quorate train SPEC --data ROWS"
            raise SpecError(f"{field}.state", f"rule '{fusion.rule}' is learned", fix)


def _check_gate(field: str, fusion: FusionSpec, spec: EnsembleSchema) -> None:
    name = fusion.options.get("input_name")
    if not isinstance(name, str) or name not in spec.inputs:
        raise SpecError(f"{field}.options.input_name", f"{name!r} is no request input", suggest(str(name), spec.inputs))
    if spec.inputs[name].datatype == "BYTES":
        raise SpecError(f"{field}.options.input_name", f"'{name}' is BYTES", "let the gate read numbers")


def _check_subset(field: str, names: tuple[str, ...], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise SpecError(field, f"'{name}' is no member here", suggest(name, known))
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
