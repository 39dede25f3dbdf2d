"""A spec in a YAML file: read, checked whole, and written back."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import MemberSpec

MAX_SPEC_BYTES = 4 << 20


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of dropping the first."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise SpecError(str(key), f"the key stands twice (line {key_node.start_mark.line + 1})", "remove one")
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_spec(data: Mapping[str, Any]) -> EnsembleSpec:
    """Check a spec that is already a mapping.

    Raises:
        SpecError: the first mistake, with its field and its fix.
    """
    try:
        return EnsembleSpec.model_validate(data)
    except ValidationError as error:
        raise _spec_error(error) from None


def load_spec(path: str | Path) -> EnsembleSpec:
    """Read and check a spec file, and that the files it names are there and have the digests it gives.

    Raises:
        SpecError: the first mistake, with its field and its fix.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise SpecError(path.name, f"the file is over {MAX_SPEC_BYTES} bytes", "give a spec, not a data file")
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise SpecError(str(path), f"cannot be read ({error.strerror})", "give the path of a spec file") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise SpecError(path.name, f"not YAML{line}: {problem}", "mend the syntax") from None
    if not isinstance(data, dict):
        raise SpecError(path.name, "the file holds no mapping", "start with 'name: ...' (see README, The spec)")
    spec = parse_spec(data)
    check_files(spec, path.parent)
    return spec


def save_spec(spec: EnsembleSpec, path: str | Path) -> None:
    """Write the spec as YAML; loading it gives the same spec."""
    Path(path).write_text(dump_spec(spec), encoding="utf-8")


def dump_spec(spec: EnsembleSpec) -> str:
    data = spec.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def pin(spec: EnsembleSpec, folder: Path) -> EnsembleSpec:
    """The spec with the digest of every checkpoint in it: its revision now names what is in the files, too."""
    members = {}
    for name, member in spec.members.items():
        path = folder / (member.weights or member.model)
        members[name] = member.model_copy(update={"digest": file_digest(path)}) if path.is_file() else member
    return spec.model_copy(update={"members": members})


def check_files(spec: EnsembleSpec, folder: Path) -> None:
    """Check what the spec names outside itself; paths are relative to ``folder``."""
    for name, member in spec.members.items():
        _check_model(f"members.{name}", member, folder)
    for name, fusion in spec.all_fusions.items():
        field = "fusion" if spec.fusion else f"fusions.{name}"
        if fusion.state:
            _check_file(f"{field}.state", folder / fusion.state)
        for fused, calibration in fusion.member_calibration.items():
            if calibration.state:
                _check_file(f"{field}.member_calibration.{fused}.state", folder / calibration.state)
        if fusion.calibration and fusion.calibration.state:
            _check_file(f"{field}.calibration.state", folder / fusion.calibration.state)


def _check_model(field: str, member: MemberSpec, folder: Path) -> None:
    checkpoint = member.weights
    if member.model.endswith((".pt2", ".onnx")):
        _check_file(f"{field}.model", folder / member.model)
        checkpoint = member.model
    else:
        _check_module(f"{field}.model", member.model.partition(":")[0], folder)
    if member.weights:
        _check_file(f"{field}.weights", folder / member.weights)
    if member.digest and checkpoint:
        found = file_digest(folder / checkpoint)
        if found != member.digest:
            raise SpecError(
                f"{field}.digest",
                f"{checkpoint} has {found}",
                "restore the file, or update digest if the change was meant",
            )


def _check_file(field: str, path: Path) -> None:
    if not path.is_file():
        raise SpecError(field, f"there is no file {path}", "paths are relative to the spec file's folder")


def _check_module(field: str, module: str, folder: Path) -> None:
    before = list(sys.path)
    sys.path += [str(folder.resolve()), str(Path.cwd())]
    try:
        importlib.invalidate_caches()
        found = _find(module)
    finally:
        sys.path[:] = before
    if found is None:
        fix = "install it, or put it beside the spec or into the current folder"
        raise SpecError(field, f"there is no module '{module}'", fix)


def _find(module: str) -> ModuleSpec | None:
    """Find a module without importing its parents: importing torch would take longer than the whole check."""
    top, *parts = module.split(".")
    found = importlib.util.find_spec(top)
    for part in parts:
        if found is None or found.submodule_search_locations is None:
            return None
        found = PathFinder.find_spec(f"{found.name}.{part}", found.submodule_search_locations)
    return found


def file_digest(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _spec_error(error: ValidationError) -> SpecError:
    first = error.errors(include_url=False)[0]
    location = [part for part in first["loc"] if part != "[key]"]
    field = ".".join(str(part) for part in location) or "spec"
    match first["type"]:
        case "extra_forbidden":
            return SpecError(field, "unknown key", _close(EnsembleSpec, location))
        case "missing":
            return SpecError(field, "it is missing", "add it")
        case "string_pattern_mismatch":
            pattern = first["ctx"]["pattern"]
            return SpecError(field, f"'{first['input']}' is not allowed", f"write it as {pattern}")
    found = repr(first["input"])
    return SpecError(field, f"found {found[:80]}", first["msg"][0].lower() + first["msg"][1:])


def _close(model: type[BaseModel], location: list[Any]) -> str:
    """Which known key the unknown last part of ``location`` was probably meant to be."""
    known = _known_keys(model, location[:-1])
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"remove it; known here: {', '.join(known)}"


def _known_keys(model: type[BaseModel], path: list[Any]) -> list[str]:
    """Walk the fields by name; a part that is no field is a key of a mapping and stays in the same model."""
    for part in path:
        field = model.model_fields.get(part)
        if field is not None:
            model = _model_in(field.annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if found := _model_in(inner):
            return found
    return None
