"""JSON and TOML: into the same tree as YAML, with numbers as they are written."""

from __future__ import annotations

import json
import re
import sys
from datetime import date, time
from typing import Any

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.text.scalars import Scalar


def read_json(text: str) -> Any:
    """A tree of dicts, lists, strings and ``Scalar``.

    Raises:
        SpecError: it is no JSON, or a key is given twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise SpecError(key, f"the key is given twice{_second(text, key)}", "remove one")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=unique, parse_int=_int, parse_float=_float)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SpecError("spec", f"not JSON at {where}: {error.msg}", "correct the syntax") from None
    except (ValueError, RecursionError) as error:
        raise SpecError("spec", f"not JSON: {error}", "correct the syntax") from None


def read_toml(text: str) -> Any:
    """The same of TOML.

    Raises:
        SpecError: it is no TOML, or a key is given twice; with line and column.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return _with_text(tomllib.loads(text, parse_float=_float))
    except (ValueError, RecursionError) as error:
        raise SpecError("spec", f"not TOML: {error}", "correct the syntax") from None


def _with_text(data: Any) -> Any:
    """TOML's whole numbers and dates as text, too; it knows one way to write most of them."""
    if isinstance(data, dict):
        return {key: _with_text(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_with_text(value) for value in data]
    if isinstance(data, int) and not isinstance(data, bool):
        return Scalar(str(data), data, data)
    return str(data) if isinstance(data, date | time) else data


def _int(text: str) -> Scalar:
    return Scalar(text, int(text), int(text))


def _float(text: str) -> Scalar:
    return Scalar(text, float(text), float(text))


def _second(text: str, key: str) -> str:
    """Where a key stands for the second time, if it stands in one object alone."""
    found = list(re.finditer(re.escape(json.dumps(key)) + r"\s*:", text))
    if len(found) != 2:
        return ""
    before = text[: found[1].start()]
    return f" (line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))})"
