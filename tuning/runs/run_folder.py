"""A run's folder: the resulting spec with everything it names, deployable as it is, beside report and predictions."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec, save_spec
from quorate.deployments.spec.model_formats import FACTORY, factory_of, format_of
from quorate.tuning.errors import TuningError


def new_run_folder(runs: Path | str, name: str) -> Path:
    """Make ``runs/NAME-DATE-TIME``; a second run within the second gets a number, two runs never share a folder.

    Raises:
        TuningError: no folder can be made there.
    """
    runs, stem = Path(runs), f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            folder = runs / (stem if number == 1 else f"{stem}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                break
    except OSError as error:
        raise TuningError("runs", f"{runs}: {error.strerror}", "give a folder that can be written to") from error
    return folder


def with_weights(
    spec: EnsembleSpec,
    weights: Mapping[str, float],
    patterns: Sequence[Mapping[str, float]] = (),
    calibration: Mapping[str, Any] | None = None,
) -> EnsembleSpec:
    """The spec with its returned fusion a weighted mean; deadline and the rest of the fusion stay.

    A member of weight 0 is not asked: the quorum is lowered to those that are, where it was above. Calibrations that
    were there go: the weights are for what the members say themselves.

    Args:
        weights: of each member.
        patterns: weights for rows that exactly the members named answered.
        calibration: of the fused rows, in a spec's words.
    """
    fusion = spec.output_fusion.model_dump(mode="json", exclude_defaults=True)
    for learned in ("options", "state", "member_calibration", "calibration"):
        fusion.pop(learned, None)
    fusion |= {"rule": "weighted_mean", "weights": dict(weights)}
    fusion["quorum"] = min(spec.output_fusion.quorum, sum(weight > 0 for weight in weights.values()))
    if patterns:
        fusion["options"] = {"patterns": [dict(pattern) for pattern in patterns]}
    if calibration:
        fusion["calibration"] = dict(calibration)
    data = spec.model_dump(mode="json", exclude_defaults=True)
    if spec.fusion:
        data["fusion"] = fusion
    else:
        data["fusions"][spec.output_name] = fusion
    return parse_spec(data)


def save_deployable(spec: EnsembleSpec, source: Path, folder: Path) -> EnsembleSpec:
    """Write ``spec.yaml`` and copy checkpoints, fusion states and factories that lie beside the spec.

    Args:
        spec: its paths start from ``source``.
        source: the folder of the spec file it came from.
        folder: where it is to be deployable.

    Returns:
        The spec as written; a path that led out of ``source`` now leads into ``artifacts``.
    """
    data = spec.model_dump(mode="json", exclude_defaults=True)
    for name, member in data["members"].items():
        field = "weights" if format_of(member["model"]) is FACTORY else "model"
        if member.get(field):
            member[field] = _copy(source, member[field], folder, name)
        if field == "weights":
            copy_factory(source, member["model"], folder)
    fusions = [data["fusion"]] if spec.fusion else list(data["fusions"].values())
    for number, fusion in enumerate(fusions):
        if fusion.get("state"):
            fusion["state"] = _copy(source, fusion["state"], folder, f"fusion-{number}")
    written = parse_spec(data)
    save_spec(written, folder / "spec.yaml")
    return written


def save_report(report: Mapping[str, Any], folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _copy(source: Path, name: str, folder: Path, stem: str) -> str:
    path = Path(name)
    inside = not path.is_absolute() and ".." not in path.parts
    target = path if inside else Path("artifacts") / f"{stem}{path.suffix}"
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source / path, folder / target)
    return target.as_posix()


def copy_factory(source: Path, model: str, folder: Path) -> None:
    """Factories are looked for in the spec's folder first; one that lies there must lie in the run's folder too."""
    top = factory_of(model)[0].split(".")[0]
    if (source / f"{top}.py").is_file():
        shutil.copy2(source / f"{top}.py", folder / f"{top}.py")
    elif (source / top / "__init__.py").is_file():
        shutil.copytree(source / top, folder / top, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
