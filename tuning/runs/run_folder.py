"""A run's folder: the resulting spec with everything it names, deployable as it is, beside report and predictions."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.deployments.atomic_files import copy_whole, write_whole
from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.factory_code import code_files
from quorate.deployments.spec.files import parse_spec, save_spec
from quorate.deployments.spec.model_formats import model_path
from quorate.deployments.spec.named_files import NamedFile, files_in, found_files, named_files, with_paths
from quorate.tuning.errors import TuningError

if TYPE_CHECKING:
    from torch import Tensor

SPEC, REPORT = "spec.yaml", "report.json"


def other_spec(name: str) -> str:
    """The file of an alternative that is not the run's recommended one."""
    return f"spec-{name}.yaml"


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


def save_deployable(spec: EnsembleSpec, source: Path, folder: Path) -> EnsembleSpec:
    """Write ``spec.yaml`` and copy checkpoints, fusion states and factories that lie beside the spec.

    Args:
        spec: its paths start from ``source``.
        source: the folder of the spec file it came from.
        folder: where it is to be deployable.

    Returns:
        The spec as written; a path that led out of ``source`` now leads into ``artifacts``.
    """
    files = named_files(spec)
    taken = {file.path for file in files if file.inside}
    paths = {file.field: file.path if file.inside else _target(source / file.path, file, taken) for file in files}
    for file in files:
        copy_files(source / file.path, folder / paths[file.field])
    for name, member in spec.members.items():
        copy_code(source, member.model, folder)
        for file in found_files(name, member, source):
            if file.inside:
                copy_files(source / file.path, folder / file.path)
            elif file.field.startswith(f"members.{name}.model."):  # what the model's file names lies beside it
                beside = Path(file.path).relative_to(Path(model_path(member.model) or "").parent)
                copy_files(source / file.path, (folder / paths[f"members.{name}.model"]).parent / beside)
    data = spec.model_dump(mode="json", exclude_defaults=True, exclude={"digests"})
    written = parse_spec(with_paths(data, paths))
    save_spec(written, folder / SPEC)
    return written


def copy_files(source: Path, target: Path) -> None:
    """A file, or each file of a folder."""
    for path in files_in(source):
        copy_whole(path, target / path.relative_to(source))


def save_state(tensors: Mapping[str, Tensor], folder: Path, name: str) -> str | None:
    """Write what a rule has learned; the file's path from ``folder``, None where it has learned nothing.

    The file is named by its content too: another state of the same name, which a spec beside it names, stays.
    """
    if not tensors:
        return None
    from safetensors.torch import save

    data = save({key: tensor.contiguous() for key, tensor in tensors.items()})
    path = f"states/{name}-{hashlib.sha256(data).hexdigest()[:12]}.safetensors"
    write_whole(folder / path, data)
    return path


def save_report(report: Mapping[str, Any], folder: Path) -> None:
    write_whole(folder / REPORT, (json.dumps(report, indent=1) + "\n").encode())


def _target(path: Path, file: NamedFile, taken: set[str]) -> str:
    """Where a file from outside goes: named by its content, so that two files never share a name."""
    digest = file_digest(path).removeprefix("sha256:")[:12]
    stem = file.field.split(".")[1] if file.field.startswith("members.") else "fusion"
    inner = f"/{path.name}" if path.suffix == ".onnx" else path.suffix  # which names others by their path from there
    target = f"artifacts/{stem}-{digest}{inner}"
    while target in taken:
        target = f"artifacts/_{target.removeprefix('artifacts/')}"
    return target


def copy_code(source: Path, model: str, folder: Path) -> None:
    """Copy the source files beside a spec that make a factory: they are looked for beside the spec of the run, too."""
    for path in code_files(model, source):
        copy_whole(source / path, folder / path)
