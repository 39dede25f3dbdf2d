"""A new fusion that arrived over the network: what a ``config`` may change in a running ensemble, and what it may not.

It may hold what a revision may change: the fusion's rule, members, weights, options, deadline, quorum, required members
and hedging. It may name no file, module or import path: those come only from the spec that the operator deployed.
"""

from __future__ import annotations

from typing import Any

import orjson

from quorate.deployments.errors import RequestError
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.spec.named_files import named_files

_CHANGEABLE = tuple(name for name in FusionSpec.model_fields if name != "state")


def revise(spec: EnsembleSpec, config: str) -> EnsembleSpec:
    """The spec with another fusion.

    Args:
        spec: what runs.
        config: a JSON object ``{"fusion": {...}}`` with the spec's fields, or ``{"fusions": {name: {...}}}`` where they
            have names. What it leaves out stays as it is; null takes it away.

    Raises:
        RequestError: the config names something that it may not.
        SpecError: the fusion is none.
    """
    try:
        changes = orjson.loads(config)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"config is not JSON ({error}); send {{'fusion': {{...}}}}") from None
    if not isinstance(changes, dict) or len(changes) != 1 or not set(changes) <= {"fusion", "fusions"}:
        found = ", ".join(map(repr, changes))[:100] if isinstance(changes, dict) else type(changes).__name__
        raise RequestError(f"config holds {found}; a revision changes only the fusion: send {{'fusion': {{...}}}}")
    data = spec.model_dump(mode="json")
    if "fusion" in changes:
        if data["fusion"] is None:
            raise RequestError(f"the fusions have names; send {{'fusions': {{{', '.join(data['fusions'])}: ...}}}}")
        data["fusion"] = _changed("fusion", data["fusion"], changes["fusion"])
        return _parsed(data)
    if not isinstance(changes["fusions"], dict) or not set(changes["fusions"]) <= set(data["fusions"]):
        raise RequestError(
            f"config's fusions are no object of fusions; there are {', '.join(data['fusions']) or 'none'}"
        )
    for name, fusion in changes["fusions"].items():
        data["fusions"][name] = _changed(f"fusions.{name}", data["fusions"][name], fusion)
    return _parsed(data)


def _parsed(data: dict[str, Any]) -> EnsembleSpec:
    """The spec, without digests of files that it names no more."""
    spec = parse_spec(data)
    named = {file.field for file in named_files(spec)}
    kept = {f: digest for f, digest in spec.digests.items() if f.startswith("members.") or f in named}
    return spec.model_copy(update={"digests": kept})


def _changed(where: str, old: dict[str, Any], changes: Any) -> dict[str, Any]:
    if not isinstance(changes, dict):
        raise RequestError(f"{where} is {changes!r:.60}; send an object with {', '.join(_CHANGEABLE)}")
    file = _file_in(changes, where)
    if file:
        raise RequestError(f"{file} names a file, which nothing from the network may; deploy the spec instead")
    for key in changes:
        if key not in (*_CHANGEABLE, "state"):
            raise RequestError(f"{where}.{key[:60]} is unknown; a revision changes {', '.join(_CHANGEABLE)}")
    merged = {**old, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def without_files(data: Any) -> Any:
    """What a spec says, but for the names of files in it."""
    if not isinstance(data, dict):
        return data
    return {key: without_files(value) for key, value in data.items() if not _names_file(key, value)}


def _file_in(data: Any, where: str) -> str:
    """Where a file is named, at any depth; empty for nowhere."""
    if not isinstance(data, dict):
        return ""
    inner = (_file_in(value, f"{where}.{key[:60]}") for key, value in data.items())
    named = (f"{where}.{key}" for key, value in data.items() if _names_file(key, value))
    return next((found for found in (*named, *inner) if found), "")


def _names_file(key: str, value: Any) -> bool:
    """Rules and calibrations have their files under ``state``; a class of that name has a number."""
    return key == "state" and isinstance(value, str)
