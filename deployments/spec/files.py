"""A spec in a file: read, checked whole, and written back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quorate.deployments.atomic_files import write_whole
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.field_errors import field_error
from quorate.deployments.spec.model_files.own_classes import with_own_classes
from quorate.deployments.spec.text.json_text import read_json, read_toml
from quorate.deployments.spec.text.scalars import resolved
from quorate.deployments.spec.text.yaml_text import read_yaml, write_yaml

MAX_SPEC_BYTES = 4 << 20
_READERS: dict[str, Callable[[str], Any]] = {".json": read_json, ".toml": read_toml}


def parse_spec(data: Mapping[str, Any]) -> EnsembleSpec:
    """Check a spec that is already a mapping.

    Raises:
        SpecError: the first mistake, with its field and its fix.
    """
    try:
        return EnsembleSpec.model_validate(data)
    except ValidationError as error:
        raise field_error(EnsembleSpec, error) from None


def load_spec(path: str | Path) -> EnsembleSpec:
    """Read and check a spec file, and that the files it names are there and have the digests it gives.

    Args:
        path: .json and .toml are these, everything else is YAML.

    Raises:
        SpecError: the first mistake, with its field and its fix.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise SpecError(path.name, f"the file is over {MAX_SPEC_BYTES} bytes", "give a spec, not a data file")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(str(path), f"cannot be read ({error.strerror})", "give the path of a spec file") from None
    except UnicodeDecodeError:
        raise SpecError(path.name, "no text in UTF-8", "give a spec file") from None
    try:
        tree = _READERS.get(path.suffix.lower(), read_yaml)(text)
    except SpecError as error:
        if error.field != "spec":
            raise
        raise SpecError(path.name, error.found, error.fix) from None
    if not isinstance(tree, dict):
        raise SpecError(path.name, "the file holds no mapping", "start with 'name: ...', as the README's example does")
    spec = parse_spec(with_own_classes(resolved(tree, EnsembleSpec), path.parent))
    check_files(spec, path.parent)
    return spec


def save_spec(spec: EnsembleSpec, path: str | Path) -> None:
    """Write the spec, as JSON into .json and else as YAML; loading it gives the same spec.

    Raises:
        SpecError: the file is to be TOML, which is only read.
    """
    path = Path(path)
    if path.suffix.lower() == ".toml":
        raise SpecError(path.name, "TOML is read and not written", "save it as .yaml or .json")
    text = (
        json.dumps(as_written(spec), indent=2, ensure_ascii=False)
        if path.suffix.lower() == ".json"
        else dump_spec(spec)
    )
    write_whole(path, text.encode())


def dump_spec(spec: EnsembleSpec) -> str:
    """The spec as YAML."""
    return write_yaml(as_written(spec))


def as_written(spec: EnsembleSpec) -> dict[str, Any]:
    """What a file of the spec holds, in JSON's types; ``parse_spec`` gives the same spec."""
    return spec.model_dump(mode="json", exclude_defaults=True)
