"""Actors and tasks whose workers are forked, on clusters that others have started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quorate.deployments.fork_server.command import LABEL, forked

# What replicas of both kinds import before they answer, without Ray.
REPLICA_MODULES = ("quorate.deployments.members.replica", "quorate.deployments.server.fusion_server")


def worker_options(modules: Sequence[str]) -> dict[str, Any]:
    """Options for Ray, to be merged with others; none where workers cannot be forked, or all are.

    Args:
        modules: what they will import.
    """
    import ray

    if all(node["Labels"].items() >= LABEL.items() for node in ray.nodes() if node["Alive"]):
        return {}
    environment = forked(modules, ray.get_runtime_context().runtime_env)
    return {"runtime_env": environment} if environment else {}
