"""A spec that was made of another reads less: what nothing reads any more is no part of it, or it would be refused."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def without_the_unread(data: dict[str, Any], outputs: Collection[str]) -> dict[str, Any]:
    """The spec's fields without members, inner fusions and request inputs that nothing reads any more.

    Args:
        data: the fields.
        outputs: fusions whose values are the answer.
    """
    data = dict(data)
    fusions = dict.fromkeys(outputs, data["fusion"]) if "fusion" in data else data["fusions"]
    while True:
        read = {source for member in data["members"].values() for source in member["inputs"]}
        read.update(name for fusion in fusions.values() for name in fusion.get("members", ()))
        members = {name: member for name, member in data["members"].items() if name in read}
        left = {name: fusion for name, fusion in fusions.items() if name in read or name in outputs}
        if len(members) == len(data["members"]) and len(left) == len(fusions):
            break
        data["members"], fusions = members, left
    if "fusions" in data:
        data["fusions"] = fusions
    read.update(str(fusion.get("options", {}).get("input_name")) for fusion in fusions.values())  # a gate's
    read.add(str(data.get("lengths")))  # a fusion of tokens reads it
    placed = with_placed_members(data)
    return {**placed, "inputs": {name: one for name, one in data["inputs"].items() if name in read}}


def with_placed_members(data: dict[str, Any]) -> dict[str, Any]:
    """The spec's fields, of which those that say where members run name only members that are there."""
    together = [[name for name in group if name in data["members"]] for group in data.get("together", ())]
    apart = [name for name in data.get("apart", ()) if name in data["members"]]
    lists = {"together": [group for group in together if len(group) > 1], "apart": apart}
    return {**data, **{field: found for field, found in lists.items() if field in data}}
