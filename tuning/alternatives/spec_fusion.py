"""From a spec's fusion to a recipe, and back into a spec that can be deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quorate.deployments.engine.state_file import load_state
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.spec.schema import CalibrationSpec
from quorate.fusion.calibration.calibration import Calibration
from quorate.fusion.calibration.decision import Decision
from quorate.fusion.registry import RULES
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.runs.run_folder import save_state


def incumbent_recipe(spec: EnsembleSpec, folder: Path, decided: bool = False) -> Recipe:
    """The returned fusion as it is.

    Args:
        decided: with its thresholds; else its decision, which ends in 0 or 1 and not in probabilities, is left out.

    Raises:
        SpecError: a file of it cannot be read.
    """
    fusion, classes, taken = spec.output_fusion, spec.classes or (), spec.output_fusion.decision

    def calibration(part: CalibrationSpec) -> Calibration:
        return Calibration.from_spec(part.model_dump(), classes, load_state(part.state, folder) if part.state else None)

    return Recipe(
        fusion.rule,
        fusion.members,
        None if fusion.weights is None else {name: fusion.weights.get(name, 0.0) for name in fusion.members},
        fusion.options,
        load_state(fusion.state, folder) if fusion.state else {},
        {name: calibration(part) for name, part in fusion.member_calibration.items()},
        None if fusion.calibration is None else calibration(fusion.calibration),
        Decision.from_spec(taken.thresholds, taken.reject_below, classes) if decided and taken is not None else None,
        classes=tuple(classes) if RULES[fusion.rule].sequences else (),
    )


def with_recipe(spec: EnsembleSpec, recipe: Recipe, folder: Path, name: str, decided: bool = False) -> EnsembleSpec:
    """The spec with this as its returned fusion; deadline and the rest of the fusion stay.

    The quorum is lowered to the members that are asked where it was above; what nothing reads any more goes, members,
    inner fusions and request inputs.

    Args:
        folder: where the tensors of a learned rule are written.
        name: of their file.
        decided: the decision is the recipe's, too.
    """
    fusion = spec.output_fusion.model_dump(mode="json", exclude_defaults=True)
    learned = ["weights", "options", "state", "member_calibration", "calibration", "conformal"]
    for field in [*learned, "decision"] if decided else learned:
        fusion.pop(field, None)
    fusion |= recipe.fields(spec.classes or (), save_state(recipe.state, folder, name))
    fusion["quorum"] = min(spec.output_fusion.quorum, len(recipe.asked))
    if spec.output_fusion.required:
        fusion["required"] = [member for member in spec.output_fusion.required if member in recipe.asked]
    data = spec.model_dump(mode="json", exclude_defaults=True)
    if spec.fusion:
        data["fusion"] = fusion
    else:
        data["fusions"][spec.output_name] = fusion
    return parse_spec(_without_the_unread(data, spec.output_name))


def _without_the_unread(data: dict[str, Any], output: str) -> dict[str, Any]:
    """The spec's fields without members, inner fusions and request inputs that nothing reads any more."""
    data = dict(data)
    fusions = {output: data["fusion"]} if "fusion" in data else data["fusions"]
    while True:
        read = {source for member in data["members"].values() for source in member["inputs"]}
        read.update(name for fusion in fusions.values() for name in fusion.get("members", ()))
        members = {name: member for name, member in data["members"].items() if name in read}
        left = {name: fusion for name, fusion in fusions.items() if name in read or name == output}
        if len(members) == len(data["members"]) and len(left) == len(fusions):
            break
        data["members"], fusions = members, left
    if "fusions" in data:
        data["fusions"] = fusions
    read.update(str(fusion.get("options", {}).get("input_name")) for fusion in fusions.values())  # a gate's
    read.add(str(data.get("lengths")))  # a fusion of tokens reads it
    return {**data, "inputs": {name: one for name, one in data["inputs"].items() if name in read}}
