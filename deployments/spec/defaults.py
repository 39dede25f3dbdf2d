"""What a spec need not say: which members a fusion takes, and how long an inner fusion waits."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import Any

from quorate.deployments.spec.schema import DEADLINE_S


def with_default_fusion_members(data: Any) -> Any:
    """Let a single ``fusion`` without ``members`` fuse every member that no other member reads."""
    if not isinstance(data, dict) or not isinstance(data.get("members"), dict):
        return data
    fusion = data.get("fusion")
    if not isinstance(fusion, dict) or fusion.get("members"):
        return data
    read: set[str] = set()
    for member in data["members"].values():
        inputs = member.get("inputs") if isinstance(member, dict) else None
        read.update(i for i in inputs or () if isinstance(i, str))
    heads = [name for name in data["members"] if name not in read]
    return {**data, "fusion": {**fusion, "members": heads}}


def with_inner_deadlines(data: Any) -> Any:
    """Give an inner fusion without ``deadline_s`` its share of the answer's, by how deep in the graph it stands.

    An encoder before a fusion before a head: the fusion, one of two members deep, waits half as long as the answer.
    """
    if not isinstance(data, dict) or not isinstance(data.get("fusions"), dict) or not data["fusions"]:
        return data
    fusions = data["fusions"]
    depths = _depths(data)
    output = data.get("output") or next(reversed(fusions))
    if depths is None or not isinstance(fusions.get(output), dict) or not depths.get(output):
        return data
    limit = fusions[output].get("deadline_s", DEADLINE_S)
    if type(limit) not in (int, float):
        return data
    filled = {
        name: {**fusion, "deadline_s": limit * depths[name] / depths[output]}
        if isinstance(fusion, dict) and "deadline_s" not in fusion and 0 < depths[name] < depths[output]
        else fusion
        for name, fusion in fusions.items()
    }
    return {**data, "fusions": filled}


def _depths(data: dict[str, Any]) -> dict[str, int] | None:
    """How many members stand one behind the other up to each node; None where the graph is none."""
    members: dict[str, Any] = data["members"] if isinstance(data.get("members"), dict) else {}
    nodes = {**members, **data["fusions"]}
    sources: dict[str, list[str]] = {}
    for name, node in nodes.items():
        read = node.get("inputs" if name in members else "members") if isinstance(node, dict) else None
        listed = read if isinstance(read, (list, tuple)) else ()
        sources[name] = [source for source in listed if isinstance(source, str) and source in nodes]
    try:
        order = list(TopologicalSorter(sources).static_order())
    except (CycleError, TypeError):
        return None
    depths: dict[str, int] = {}
    for name in order:
        depths[name] = max((depths[source] for source in sources[name]), default=0) + (name in members)
    return depths
