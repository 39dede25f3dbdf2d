"""The spec as a JSON schema, for editors: its fields, their types and what they are for, short forms included."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel

from quorate.deployments.spec import schema
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields import fusion, preprocess
from quorate.fusion.registry import RULES

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """A schema by draft 2020-12. It knows types and words; what they say together ``quorate validate`` checks."""
    found = EnsembleSpec.model_json_schema()
    definitions: dict[str, Any] = found["$defs"]
    for name, one in {**definitions, "EnsembleSpec": found}.items():
        _describe(one, EnsembleSpec if name == "EnsembleSpec" else _model(name))
    tensor = definitions["TensorSpec"]
    definitions["TensorSpec"] = {
        "description": tensor.pop("description"),
        "anyOf": [{"enum": tensor["properties"]["datatype"]["enum"]}, tensor],
    }
    online = definitions["OnlineSpec"]
    definitions["OnlineSpec"] = {
        "description": online.pop("description"),
        "anyOf": [{"enum": [*online["properties"]["mode"]["enum"], False]}, online],  # off is false in YAML 1.1
    }
    read = definitions["MemberSpec"]["properties"]["inputs"]
    definitions["MemberSpec"]["properties"]["inputs"] = {
        "description": read.pop("description"),
        "anyOf": [read, {"type": "object", "additionalProperties": read["items"], "minProperties": 1}],
    }
    definitions["FusionSpec"]["properties"]["rule"]["enum"] = sorted(RULES)
    _close(found)
    found["oneOf"] = [{"required": ["fusion"]}, {"required": ["fusions"]}]
    return {"$schema": DIALECT, **found, "title": "An ensemble of Quorate"}


def _model(name: str) -> Any:
    return getattr(next(part for part in (preprocess, fusion, schema) if hasattr(part, name)), name)


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Give fields the descriptions that stand under ``Attributes`` of their classes."""
    summary, described = "", dict[str, str]()
    for one in reversed([cls for cls in model.__mro__ if issubclass(cls, BaseModel) and cls is not BaseModel]):
        head, _, attributes = (inspect.cleandoc(one.__doc__ or "")).partition("Attributes:\n")
        summary = head.strip() or summary
        described |= _attributes(attributes)
    schema["description"] = " ".join(summary.split())
    for name, field in schema.get("properties", {}).items():
        if name in described:
            field["description"] = described[name]


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in re.split(r"\n(?=    \w[\w, ]*: )", f"\n{text.rstrip()}"):
        names, colon, words = part.strip().partition(": ")
        for name in names.split(", ") if colon else ():
            found[name] = " ".join(words.split())
    return found


def _close(schema: Any) -> None:
    """Where keys are names, refuse others: by itself a pattern of keys says nothing about them."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        for inner in schema.values():
            _close(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _close(inner)
