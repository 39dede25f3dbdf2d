"""The JSON schema of specs."""

from __future__ import annotations

from typing import Any


def schema() -> dict[str, Any]:
    """A JSON schema of specs (draft 2020-12), for editors that complete and check YAML, JSON and TOML."""
    from quorate.deployments.spec.json_schema import json_schema

    return json_schema()
