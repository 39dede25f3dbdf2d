"""Actors and tasks whose workers are forked, as far as the runtime environment of this process allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quorate.deployments.fork_server.command import forked

# What replicas of both kinds import before they answer.
REPLICA_MODULES = (
    "quorate.deployments.control.member_deployment",
    "quorate.deployments.members.replica",
    "quorate.deployments.control.fusion_deployment",
    "quorate.deployments.server.fusion_server",
)


def worker_options(modules: Sequence[str]) -> dict[str, Any]:
    """Options for Ray, to be merged with others; none where workers cannot be forked.

    Args:
        modules: what they will import.
    """
    import ray

    environment = forked(modules, ray.get_runtime_context().runtime_env if ray.is_initialized() else None)
    return {"runtime_env": environment} if environment else {}
