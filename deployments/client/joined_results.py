"""Answers to rows that follow each other, as one: rows of other lengths go in requests of their own."""

# B rows

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from quorate.deployments.client.result import Result
from quorate.deployments.rows.uneven import concatenated
from quorate.deployments.wire.answer_id import ANSWER_ID

_Said = Sequence[tuple[Mapping[str, Any], int]]  # what each answer says of itself, and how many rows it has


def joined(results: Sequence[Result]) -> Result:
    """One answer to all rows, of the outputs that all of them have: (B,) arrays where their rows have other shapes.

    Its parameters name every member and revision that any of them names, and count rows from the first.
    """
    first = results[0]
    if len(results) == 1:
        return first
    names = [name for name in first.outputs if all(name in one.outputs for one in results)]
    outputs = {name: concatenated([one.outputs[name] for one in results]) for name in names}
    rows = [len(next(iter(one.outputs.values()), ())) for one in results]
    several = {
        name: _account([(one.output_parameters[name], count) for one, count in zip(results, rows, strict=True)])
        for name in first.output_parameters
        if all(name in one.output_parameters for one in results)
    }
    about = _account([(one.parameters, count) for one, count in zip(results, rows, strict=True)])
    return replace(first, outputs=outputs, parameters=about, output_parameters=several)


def _account(said: _Said) -> dict[str, Any]:
    names = dict.fromkeys(name for parameters, _ in said for name in parameters)
    found = {name: _JOINED.get(name, _first)([parameters.get(name) for parameters, _ in said]) for name in names}
    found.pop("rows_missing", None)
    if some := _rows_missing(said):
        found["rows_missing"] = some
    for name in ("prediction_sets", "prediction_intervals"):
        if name in found:
            found[name] = _listed(name, said)
    if "rows_abstained" in found:
        found["rows_abstained"] = " ".join(
            str(start + int(row))
            for start, parameters in _starts(said)
            for row in str(parameters.get("rows_abstained", "")).split()
        )
    return found


def _first(values: Sequence[Any]) -> Any:
    return next(value for value in values if value is not None)


def _named(values: Sequence[Any]) -> str:
    """All that stand in lists with commas, once."""
    return ",".join(dict.fromkeys(item for value in values if value for item in str(value).split(",")))


_JOINED: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "revision": _named, "members_used": lambda values: ",".join(sorted(_named(values).split(","))),
    "members_missing": _named, "outputs_missing": _named, ANSWER_ID: _named,
    "coverage": lambda values: min(value for value in values if value is not None), "degraded": any,
}  # fmt: skip


def _starts(said: _Said) -> list[tuple[int, Mapping[str, Any]]]:
    """The number of each answer's first row, with what it says."""
    ends = np.cumsum([count for _, count in said]).tolist()
    return [(end - count, parameters) for end, (parameters, count) in zip(ends, said, strict=True)]


def _rows_missing(said: _Said) -> str:
    """The rows of members that are missing from some; who is missing from a whole answer is so from all its rows."""
    found: dict[str, list[int]] = {}
    for (start, parameters), (_, count) in zip(_starts(said), said, strict=True):
        some = dict(item.split(":") for item in str(parameters.get("rows_missing", "")).split(",") if item)
        for item in str(parameters.get("members_missing", "")).split(","):
            name = item.partition(":")[0]
            if name:
                rows = map(int, some[name].split()) if name in some else range(count)
                found.setdefault(name, []).extend(start + row for row in rows)
    total = sum(count for _, count in said)
    return ",".join(f"{name}:{' '.join(map(str, rows))}" for name, rows in found.items() if len(rows) < total)


def _listed(name: str, said: _Said) -> str:
    """What is said of each row, null where an answer says nothing."""
    rows: list[Any] = []
    for parameters, count in said:
        rows += orjson.loads(parameters[name]) if name in parameters else [None] * count
    return orjson.dumps(rows).decode()
