"""What a spec need not say: the names of all inputs, which members a fusion takes, how long an inner fusion waits."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import Any

from quorate.deployments.spec.fields.fusion import DEADLINE_S
from quorate.deployments.spec.schema import with_input_names

# In a member's inputs it stands for all inputs of the request, where nothing else is called so.
ALL = "all"


def with_members_inputs(data: Any) -> Any:
    """Have lists under each member's ``inputs``, whatever the models call them."""
    if not isinstance(data, dict) or not isinstance(data.get("members"), dict):
        return data
    return {**data, "members": {name: with_input_names(member) for name, member in data["members"].items()}}


def with_all_inputs(data: Any) -> Any:
    """Write out ``inputs: [all]`` of members: the spec's inputs in their order, in the place of ``all``."""
    if not isinstance(data, dict) or not isinstance(data.get("inputs"), dict):
        return data
    members = data.get("members")
    fusions = data["fusions"] if isinstance(data.get("fusions"), dict) else {}
    if not isinstance(members, dict) or any(ALL in names for names in (data["inputs"], members, fusions)):
        return data
    return {**data, "members": {name: _written_out(member, data["inputs"]) for name, member in members.items()}}


def _written_out(member: Any, inputs: dict[str, Any]) -> Any:
    read = member.get("inputs") if isinstance(member, dict) else None
    if not isinstance(read, (list, tuple)) or ALL not in read:
        return member
    return {**member, "inputs": [name for source in read for name in (inputs if source == ALL else [source])]}


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
    several = data.get("outputs") or ()
    outputs = several if isinstance(several, (list, tuple)) else ()
    if depths is None:
        return data
    shares: dict[str, float] = {}  # by inner fusion, the shortest that any answer leaves it
    for output in outputs or (data.get("output") or next(reversed(fusions)),):
        answer = fusions.get(output) if isinstance(output, str) else None
        limit: Any = answer.get("deadline_s", DEADLINE_S) if isinstance(answer, dict) else None
        if type(limit) in (int, float) and depths.get(output):
            for name in fusions:
                if 0 < depths[name] < depths[output] and name not in outputs:
                    shares[name] = min(limit * depths[name] / depths[output], shares.get(name, limit))
    filled = {
        name: {**fusion, "deadline_s": shares[name]}
        if isinstance(fusion, dict) and "deadline_s" not in fusion and name in shares
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
