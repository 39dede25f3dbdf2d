"""Is a member of one spec the same model as that of another, wherever its files lie and however it is served?"""

from __future__ import annotations

from typing import Any

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_formats import model_path

# Where and how fast a member runs changes nothing of what it says.
HOW_IT_RUNS = frozenset({"resources", "replicas", "max_batch_size", "stall_timeout_s", "max_memory_bytes"})


def same_member(name: str, one: EnsembleSpec, other: EnsembleSpec) -> bool:
    """By settings, and digests of files and code, of the member and of all that it reads.

    Args:
        one, other: with their digests (``pin``).
    """
    nodes = one.upstream(name) | {name}
    return nodes == other.upstream(name) | {name} and all(_said(node, one) == _said(node, other) for node in nodes)


def _said(node: str, spec: EnsembleSpec) -> Any:
    if node in spec.members:
        job = spec.job(node)
        files = {"weights", "model"} if model_path(job.member.model) else {"weights"}
        left_out: Any = {"ensemble": True, "member": HOW_IT_RUNS | files}
        return job.model_dump(mode="json", exclude=left_out)
    of = f"{spec.field_of(node)}."
    digests = {field: digest for field, digest in spec.digests.items() if field.startswith(of)}
    return spec.all_fusions[node].model_dump(mode="json", exclude={"deadline_s", "hedge", "state"}), digests
