"""A spec with what was trained in it, deployable from a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec, save_spec
from quorate.fusion.features.base import FeatureRule
from quorate.fusion.learned.base import LearnedRule
from quorate.tuning.composite.composite_run import CompositeRun
from quorate.tuning.runs.run_folder import SPEC, save_deployable, save_state
from quorate.tuning.training.checkpoint import save_weights

# Fitted to what the answer was before.
_STALE = ("calibration", "member_calibration", "decision", "conformal")


def write_trained(
    spec: EnsembleSpec, folder: Path, run: CompositeRun | None, rule: LearnedRule | None, place: Path
) -> EnsembleSpec:
    """Write weights, states and ``spec.yaml``.

    What was fitted to the answer as it was (calibrations, thresholds of decisions and of conformal sets, weights for
    who is there) is left out; coverage that was asked for stays.

    Args:
        folder: what the spec's paths start from.
        run: in the state of its best epoch; None where only the answer's rule was fitted.
        rule: the answer's, where it was.
        place: the folder that is written to.

    Returns:
        The spec as written.
    """
    data = save_deployable(spec, folder, place).model_dump(mode="json", exclude_defaults=True)
    if run is not None:
        for name in run.model.composite.part.inside:
            _write_node(data, run, name, place)
    answer = data["fusion"] if spec.fusion else data["fusions"][spec.output_name]
    if run is not None and run.model.composite.part.trained:
        _drop_stale(answer)
    if rule is not None:
        fields = rule.to_spec(spec.output_fusion.members)
        answer |= {"options": fields.get("options", {}), "state": save_state(rule.state(), place, spec.output_name)}
    written = parse_spec(data)
    save_spec(written, place / SPEC)
    return written


def _write_node(data: dict[str, Any], run: CompositeRun, name: str, place: Path) -> None:
    composite = run.model.composite
    if name in data["members"]:
        if name in composite.part.trained:
            weights, digest = save_by_content(composite.module(name), place, name)
            data["members"][name] |= {"weights": weights, "digest": digest}
        return
    found = composite.spec.all_fusions[name]
    if f"member_{name}" not in composite.nodes:
        return
    rule = composite.module(name)
    assert isinstance(rule, FeatureRule)
    fields = rule.to_spec(found.members)
    data["fusions"][name] |= {field: fields[field] for field in ("options", "weights") if field in fields}
    state = save_state(rule.state(), place, name)
    if state is not None:
        data["fusions"][name]["state"] = state


def save_by_content(module: nn.Module, place: Path, name: str) -> tuple[str, str]:
    """Write a network's weights: their path, named by their content, and their digest.

    What lay there before may be read yet.
    """
    fresh = place / "artifacts" / f"{name}.fresh.safetensors"
    digest = save_weights(module, fresh)
    path = f"artifacts/{name}-{digest.removeprefix('sha256:')[:12]}.safetensors"
    fresh.replace(place / path)
    return path, digest


def _drop_stale(answer: dict[str, Any]) -> None:
    asked = answer.get("conformal")
    for field in _STALE:
        answer.pop(field, None)
    if asked is not None:
        answer["conformal"] = {key: value for key, value in asked.items() if key != "thresholds"}
    answer.get("options", {}).pop("patterns", None)
