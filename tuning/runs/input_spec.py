"""The spec a sweep was given, kept in the run's folder with all it names."""

from __future__ import annotations

import shutil
from pathlib import Path

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import load_spec, parse_spec
from quorate.deployments.spec.named_files import found_files, named_files, with_paths
from quorate.tuning.runs.run_folder import copy_code, copy_files, save_deployable

_PLACE = "given"


def save_input_spec(spec: EnsembleSpec | None, source: Path, run: Path) -> None:
    """Copy a spec, its checkpoints and the factories beside it; what a start that was killed has left goes."""
    shutil.rmtree(run / _PLACE, ignore_errors=True)
    if spec is None:
        return
    kept = save_deployable(spec, source, run / _PLACE)
    for name, member in kept.members.items():
        copy_code(run / _PLACE, member.model, run)
        for file in found_files(name, member, run / _PLACE):
            if file.inside and file.field.startswith(f"members.{name}.config."):  # where paths of a config start from
                copy_files(run / _PLACE / file.path, run / file.path)


def read_input_spec(run: Path) -> EnsembleSpec | None:
    """The spec that was kept, with paths that start from the run's folder; None when none was given."""
    path = run / _PLACE / "spec.yaml"
    if not path.is_file():
        return None
    spec = load_spec(path)
    paths = {file.field: f"{_PLACE}/{file.path}" for file in named_files(spec)}
    return parse_spec(with_paths(spec.model_dump(mode="json", exclude_defaults=True), paths))
