"""What the calibrations, the decision and the guarantees of a fusion must hold, beyond the type of each field."""

from __future__ import annotations

import math
from collections.abc import Mapping

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.fusion import CalibrationSpec, ConformalSpec, FusionSpec
from quorate.deployments.spec.model_formats import WEIGHTS_SUFFIX
from quorate.deployments.spec.schema import EnsembleSchema
from quorate.fusion.registry import RuleEntry


def check_calibration(spec: EnsembleSchema, field: str, fusion: FusionSpec, entry: RuleEntry) -> None:
    """Raise SpecError for the first mistake in how a fusion calibrates, decides and says how sure it is."""
    if fusion.conformal is not None:
        _check_conformal(spec, field, fusion, fusion.conformal, entry)
    members, fused, decision = fusion.member_calibration, fusion.calibration, fusion.decision
    if not members and not fused and not decision:
        return
    where = "member_calibration" if members else "calibration" if fused else "decision"
    odd = [n for n in fusion.members if spec.members[n].output not in ("logits", "probabilities")]
    if odd:
        found = f"'{odd[0]}' gives {spec.members[odd[0]].output}, not probabilities"
        raise SpecError(f"{field}.{where}", found, "remove it: only probabilities are calibrated and decided on")
    if entry.decides and (fused or decision):
        found = f"rule '{fusion.rule}' gives decisions, not probabilities"
        raise SpecError(f"{field}.{'calibration' if fused else 'decision'}", found, "remove it, or change the rule")
    for name, calibration in members.items():
        if name not in fusion.members:
            fix = f"choose from {', '.join(fusion.members)}"
            raise SpecError(f"{field}.member_calibration.{name}", f"'{name}' is no member here", fix)
        _check_numbers(f"{field}.member_calibration.{name}", calibration, spec.classes)
    if fused:
        _check_numbers(f"{field}.calibration", fused, spec.classes)
    if decision is None:
        return
    if decision.thresholds is None and decision.reject_below is None:
        raise SpecError(f"{field}.decision", "it is empty", "give thresholds, reject_below or both")
    if isinstance(decision.thresholds, Mapping):
        _check_classes(f"{field}.decision.thresholds", decision.thresholds, spec.classes)


def _check_conformal(
    spec: EnsembleSchema, field: str, fusion: FusionSpec, conformal: ConformalSpec, entry: RuleEntry
) -> None:
    field = f"{field}.conformal"
    if fusion is not spec.output_fusion:
        raise SpecError(field, "this fusion is not the answer", f"write it under {spec.output_name}")
    if entry.lists:
        raise SpecError(field, f"rule '{fusion.rule}' ranks rows", "remove it: it is promised for classes and values")
    if fusion.decision is not None or entry.decides or entry.steered:
        found = "a decision is taken" if not entry.steered else f"rule '{fusion.rule}' asks other members in each row"
        raise SpecError(field, f"{found}, of which nothing is promised", "remove one of the two")
    outputs = {spec.members[name].output for name in fusion.members if name in spec.members}
    if not outputs <= {"logits", "probabilities"} and outputs != {"values"}:
        raise SpecError(field, f"the members give {' and '.join(sorted(outputs))}", "give probabilities, or values")
    if spec.classes and outputs == {"values"}:
        raise SpecError(field, "the members give values, the ensemble has classes", "remove classes")
    if conformal.by_class and outputs == {"values"}:
        raise SpecError(f"{field}.by_class", "the members give values", "remove it")
    sets = [frozenset(one.members) for one in conformal.thresholds]
    for number, one in enumerate(conformal.thresholds):
        at = f"{field}.thresholds[{number}]"
        unknown = sorted(set(one.members) - set(fusion.members))
        if unknown:
            raise SpecError(f"{at}.members", f"'{unknown[0]}' is no member here", f"use {', '.join(fusion.members)}")
        if sets.index(sets[number]) < number:
            raise SpecError(f"{at}.members", "this set of members is there twice", "give each set once")
        if isinstance(one.threshold, Mapping):
            _check_classes(f"{at}.threshold", one.threshold, spec.classes)
        elif isinstance(one.threshold, tuple):
            if not one.threshold or spec.classes is not None or spec.quantiles is not None or entry.moments:
                found = f"{len(one.threshold)} numbers"
                raise SpecError(f"{at}.threshold", found, "give one; several are of members that give several values")
        elif one.threshold < 0 and spec.quantiles is None:
            raise SpecError(f"{at}.threshold", f"it is {one.threshold}", "give a number from 0 on")


def _check_numbers(field: str, calibration: CalibrationSpec, classes: tuple[str, ...] | None) -> None:
    words = ("floor", "temperature", "scale", "bias", "state")
    given = [word for word in words if getattr(calibration, word) is not None]
    if not given:
        raise SpecError(field, "it is empty", "give floor, temperature, scale, bias, or state: a safetensors file")
    numbers = [word for word in given if word != "floor"]
    if (len(numbers) > 1 and numbers not in (["temperature", "bias"], ["scale", "bias"])) or "state" in given[1:]:
        fix = "give temperature or scale, with or without bias and floor; or state alone"
        raise SpecError(field, f"{' and '.join(given)} do not go together", fix)
    for word in ("scale", "bias"):
        by_class: dict[str, float] | None = getattr(calibration, word)
        if by_class is not None:
            _check_classes(f"{field}.{word}", by_class, classes)
    if calibration.state and not calibration.state.endswith(WEIGHTS_SUFFIX):
        found = f"'{calibration.state}' is not a {WEIGHTS_SUFFIX} file"
        raise SpecError(f"{field}.state", found, "save tensors scale and bias with safetensors.torch.save_file")


def _check_classes(field: str, numbers: Mapping[str, float], classes: tuple[str, ...] | None) -> None:
    if classes is None:
        raise SpecError(field, "the ensemble has no classes", "add classes at the top of the spec")
    unknown, missing = [c for c in numbers if c not in classes], [c for c in classes if c not in numbers]
    if unknown:
        raise SpecError(f"{field}.{unknown[0]}", "it is not among the ensemble's classes", "name each class once")
    if missing:
        raise SpecError(f"{field}.{missing[0]}", "its number is missing", "give every class one")
    odd = next((name for name, number in numbers.items() if not math.isfinite(number)), None)
    if odd is not None:
        raise SpecError(f"{field}.{odd}", f"it is {numbers[odd]}", "give a finite number")
