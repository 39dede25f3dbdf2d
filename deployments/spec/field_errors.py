"""What pydantic finds wrong with a spec's fields, as a sentence: what was found, and what to write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.types import NAME_PATTERN
from quorate.deployments.spec.suggestions import suggest, suggest_key

_SHOWN = 80
# Mappings by name, for those who write lists, and what one of theirs looks like.
_BY_NAME = {
    "members": "members: {NAME: {model: ..., inputs: [...]}}",
    "inputs": "inputs: {NAME: {datatype: FP32, shape: [4]}}",
    "fusions": "fusions: {NAME: {rule: mean, members: [...]}}",
    "weights": "weights: {MEMBER: 0.5}",
}
# Specs carry none: their keys are those of the version that reads them.
_VERSIONS = ("version", "apiVersion", "schema_version", "kind")


def field_error(model: type[BaseModel], error: ValidationError) -> SpecError:
    """The mistake to tell first.

    Args:
        model: that was being validated.
    """
    errors = error.errors(include_url=False)
    first = errors[0]
    if first["type"] == "missing":  # a key that is written wrong is a missing key and an unknown one
        beside = (e for e in errors if e["type"] == "extra_forbidden" and e["loc"][:-1] == first["loc"][:-1])
        first = next((e for e in beside if f"'{first['loc'][-1]}'" in suggest_key(model, _location(e))), first)
    location = _location(first)
    return SpecError(".".join(map(str, location)) or "spec", *_found_and_fix(model, first, location))


def _location(error: ErrorDetails) -> list[Any]:
    return [part for part in error["loc"] if part != "[key]"]


def _found_and_fix(model: type[BaseModel], error: ErrorDetails, location: Sequence[Any]) -> tuple[str, str]:
    given = error["input"]
    match error["type"]:
        case "extra_forbidden":
            old = location[-1] in _VERSIONS and len(location) == 1
            return "unknown key", "a spec has no version; remove it" if old else suggest_key(model, location)
        case "missing":
            return "it is missing", "add it"
        case "string_pattern_mismatch":
            return f"'{given}' is not allowed", _as_pattern(given, error["ctx"]["pattern"])
        case "literal_error":
            return f"found {_shown(given)}", suggest(str(given), re.findall(r"'([^']*)'", error["ctx"]["expected"]))
        case "dict_type" | "model_type" | "model_attributes_type" if isinstance(given, list | tuple):
            named = _BY_NAME.get(str(location[-1]) if location else "")
            return "found a list", f"name each: {named}" if named else "write a mapping: {key: value}"
        case "string_type" if isinstance(given, bool):
            return f"found {given}", "put it in quotes: YAML reads yes, no, on and off as true and false"
    return f"found {_shown(given)}", error["msg"][0].lower() + error["msg"][1:]


def _as_pattern(given: str, pattern: str) -> str:
    if pattern != NAME_PATTERN:
        return f"write it as {pattern}"
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", given).strip("-")[:63]
    return f"use letters, digits, _ and -, such as {name}" if name else "use letters, digits, _ and -"


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
