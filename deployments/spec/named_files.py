"""Every file that a spec names: what is checked, digested, copied and kept goes through this one list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.model_files.onnx_files import OnnxFileError, read_onnx
from quorate.deployments.spec.model_formats import ONNX, REMOTE, format_of, model_path, with_model_path
from quorate.deployments.spec.schema import EnsembleSchema, MemberSpec


@dataclass(frozen=True)
class NamedFile:
    """A file or a folder, and the field that names it.

    Attributes:
        field: such as ``members.cnn.weights``.
        path: as the spec has it, from the spec's folder.
    """

    field: str
    path: str

    @property
    def inside(self) -> bool:
        """Whether it lies in the spec's folder."""
        return not Path(self.path).is_absolute() and ".." not in Path(self.path).parts


def named_files(spec: EnsembleSchema) -> list[NamedFile]:
    """The files that a spec must have: checkpoints of members, and those of the ensemble itself."""
    members = (found for name, member in spec.members.items() for found in member_files(name, member))
    return [*members, *ensemble_files(spec)]


def member_files(name: str, member: MemberSpec) -> list[NamedFile]:
    """A member's files: its checkpoint, and the model where that is another."""
    named = {"weights": member.weights, "model": model_path(member.model)}
    return [NamedFile(f"members.{name}.{field}", path) for field, path in named.items() if path]


def ensemble_files(spec: EnsembleSchema) -> list[NamedFile]:
    """Those that are no member's: examples of inputs, states of fusions and of calibrations, what answers were like."""
    examples = {name: tensor.example for name, tensor in spec.inputs.items()}
    shown = [NamedFile(f"inputs.{name}.example", path) for name, path in examples.items() if isinstance(path, str)]
    fusions = {"fusion": spec.fusion} if spec.fusion else {f"fusions.{n}": f for n, f in spec.fusions.items()}
    usual = spec.drift.reference if spec.drift else None
    watched = [NamedFile("drift.reference", usual)] if usual else []
    of_fusions = (found for field, fusion in fusions.items() if fusion for found in _of_fusion(field, fusion))
    return [*shown, *of_fusions, *watched]


def found_files(name: str, member: MemberSpec, folder: Path) -> list[NamedFile]:
    """Files of a member that only a look at what is there tells.

    Every text in its config that is the path of a file, or of a folder (see ``with_config_paths``), folders that its
    format has settings for, tokenizers, and files in which an ONNX file keeps its tensors.
    Of a model elsewhere none: they say who asks it, and may change at any time.
    """
    if format_of(member.model) is REMOTE:
        return []
    folders = [f"members.{name}.config.{setting}" for setting in format_of(member.model).folders]
    named = [
        NamedFile(field, text)
        for field, text in _texts(f"members.{name}.config", member.config)
        if _is_file(folder, text) or _is_inner(folder, text) or (field in folders and (folder / text).is_dir())
    ]
    return [*named, *tokenizer_folders(name, member), *_beside(f"members.{name}.model", member, folder)]


def with_config_paths(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A config as a factory is given it: a path of what lies in the spec's folder has become an absolute one.

    A text is one where it has a slash or a dot, and a file or folder is there: ``cnn`` is a word, ``./cnn`` a path.
    """

    def resolved(value: Any) -> Any:
        if isinstance(value, str):
            return str(folder.absolute() / value) if _is_inner(folder, value) else value
        if isinstance(value, Mapping):
            return {key: resolved(inner) for key, inner in value.items()}
        return [resolved(inner) for inner in value] if isinstance(value, list | tuple) else value

    return {key: resolved(value) for key, value in config.items()}


def tokenizer_folders(name: str, member: MemberSpec) -> list[NamedFile]:
    """The tokenizers of a member's preprocessing."""
    steps = member.preprocess.items()
    return [NamedFile(f"members.{name}.preprocess.{n}.tokenizer", s.tokenizer) for n, s in steps if s.tokenizer]


def files_in(path: Path) -> list[Path]:
    """A file itself, or all files in a folder in the order of their names; of what Python compiles none."""
    if not path.is_dir():
        return [path]
    inner = (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return sorted(inner, key=lambda file: file.relative_to(path).as_posix())


def with_paths(data: dict[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """A spec's data with other paths.

    Args:
        data: as ``model_dump`` gives it; it is changed.
        paths: by field.
    """
    for field, path in paths.items():
        *parents, last = field.split(".")
        place: Any = data
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        of_model = parents[0] == "members" and last == "model"
        place[int(last) if isinstance(place, list) else last] = with_model_path(place[last], path) if of_model else path
    return data


def _of_fusion(field: str, fusion: FusionSpec) -> Iterator[NamedFile]:
    if fusion.state:
        yield NamedFile(f"{field}.state", fusion.state)
    for member, calibration in fusion.member_calibration.items():
        if calibration.state:
            yield NamedFile(f"{field}.member_calibration.{member}.state", calibration.state)
    if fusion.calibration and fusion.calibration.state:
        yield NamedFile(f"{field}.calibration.state", fusion.calibration.state)


def _texts(field: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(f"{field}.{key}", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(f"{field}.{number}", inner)


def _beside(field: str, member: MemberSpec, folder: Path) -> list[NamedFile]:
    """Files that a model's own file names, from where it lies."""
    path = model_path(member.model)
    if path is None or format_of(member.model) is not ONNX or not (folder / path).is_file():
        return []
    try:
        data = read_onnx(folder / path).data
    except OnnxFileError:  # said when it is loaded
        return []
    found = [NamedFile(f"{field}.data.{number}", str(Path(path).parent / inner)) for number, inner in enumerate(data)]
    return [file for file in found if (folder / file.path).is_file()]


def _is_inner(folder: Path, text: str) -> bool:
    """Whether a text is the path of something in the spec's folder."""
    path = Path(text)
    if not ("/" in text or "." in text) or path.is_absolute() or ".." in path.parts or not path.parts:
        return False
    try:
        return (folder / path).exists()
    except (OSError, ValueError):  # too long for a path, or no path at all
        return False


def _is_file(folder: Path, text: str) -> bool:
    try:
        return bool(text) and (folder / text).is_file()
    except (OSError, ValueError):  # too long for a path, or no path at all
        return False
