"""From a spec's fusion to a recipe, and back into a spec that can be deployed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from quorate.deployments.engine.state_file import load_state
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.fusion import CalibrationSpec
from quorate.deployments.spec.files import parse_spec
from quorate.fusion.calibration.calibration import Calibration
from quorate.fusion.calibration.decision import Decision
from quorate.fusion.registry import RULES
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.runs.run_folder import save_state
from quorate.tuning.runs.unread import without_the_unread


def incumbent_recipe(spec: EnsembleSpec, folder: Path, decided: bool = False) -> Recipe:
    """The returned fusion as it is.

    Args:
        decided: with its thresholds; else its decision, which ends in 0 or 1 and not in probabilities, is left out.

    Raises:
        SpecError: a file of it cannot be read, or it relabels classes.
    """
    fusion, classes, taken = spec.output_fusion, spec.classes or (), spec.output_fusion.decision
    if fusion.relabel:
        found = "weights are tuned on labels as they are, and members call these otherwise"
        fix = "train members on labels of now and remove it, or tune on labels by the names that members know"
        raise SpecError(f"{spec.field_of(spec.output_name)}.relabel", found, fix)

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


def with_recipe(
    spec: EnsembleSpec, recipe: Recipe, folder: Path, name: str, decided: bool = False, output: str | None = None
) -> EnsembleSpec:
    """The spec with this as its returned fusion; deadline and the rest of the fusion stay.

    The quorum is lowered to the members that are asked where it was above; what nothing reads any more goes, members,
    inner fusions and request inputs.

    Args:
        folder: where the tensors of a learned rule are written.
        name: of their file.
        decided: the decision is the recipe's, too.
        output: which of several outputs it is of; the others stay.
    """
    output = output or spec.output_name
    was = spec.all_fusions[output]
    fusion = was.model_dump(mode="json", exclude_defaults=True)
    learned = ["weights", "options", "state", "member_calibration", "calibration", "conformal", "thinning"]
    for field in [*learned, "decision"] if decided else learned:
        fusion.pop(field, None)
    fusion |= recipe.fields(spec.view(output).classes or (), save_state(recipe.state, folder, name))
    fusion["quorum"] = min(was.quorum, len(recipe.asked))
    if RULES[recipe.rule].steered:
        fusion.pop("overload", None)  # such a rule chooses itself whom it asks
    if was.required:
        fusion["required"] = [member for member in was.required if member in recipe.asked]
    data = spec.model_dump(mode="json", exclude_defaults=True)
    if spec.fusion:
        data["fusion"] = fusion
    else:
        data["fusions"][output] = fusion
    return _that_learns(without_the_unread(data, spec.output_names), spec)


def _that_learns(data: dict[str, Any], spec: EnsembleSpec) -> EnsembleSpec:
    """The fields as a spec: it learns online as the given one does where the rule can, or in the shadow, or not."""
    for mode in dict.fromkeys((spec.online.mode, "shadow")) if "online" in data else ():
        with suppress(SpecError):
            return parse_spec({**data, "online": {**data["online"], "mode": mode}})
    return parse_spec({name: value for name, value in data.items() if name != "online"})
