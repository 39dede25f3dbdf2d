"""A spec in a YAML file: read, checked whole, and written back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from quorate.deployments.atomic_files import write_whole
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.field_errors import field_error

MAX_SPEC_BYTES = 4 << 20


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of dropping the first."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise SpecError(str(key), f"the key is given twice (line {key_node.start_mark.line + 1})", "remove one")
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
        raise field_error(EnsembleSpec, error) from None


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
    except SpecError:
        raise
    except Exception as error:  # beside its own, PyYAML lets out what int(), datetime() and a dict's key raise
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise SpecError(path.name, f"not YAML{line}: {problem}", "correct the syntax") from None
    if not isinstance(data, dict):
        raise SpecError(path.name, "the file holds no mapping", "start with 'name: ...', as the README's example does")
    spec = parse_spec(data)
    check_files(spec, path.parent)
    return spec


def save_spec(spec: EnsembleSpec, path: str | Path) -> None:
    """Write the spec as YAML; loading it gives the same spec."""
    write_whole(Path(path), dump_spec(spec).encode())


def dump_spec(spec: EnsembleSpec) -> str:
    data = spec.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
