"""What runs on the cluster this process is connected to: ensembles, their fusion replicas, their members' replicas."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException

from quorate.deployments.control.ray_private import ClusterStore
from quorate.deployments.control.registry import Registry
from quorate.deployments.control.replicas import Replicas

_ALIVE = ("RUNNING", "UNHEALTHY", "DEPLOYING")


def ensembles() -> list[str]:
    """Names of the ensembles that run on this cluster."""
    return sorted(name for name in serve.status().applications if "." not in name)


def applications(ensemble: str) -> list[str]:
    """The names of an ensemble's Serve applications; the fusion's, which is the ensemble's own, comes first."""
    found = [name for name in serve.status().applications if name == ensemble or name.startswith(f"{ensemble}.")]
    return sorted(found, key=len)


def describe(application: str) -> list[dict[str, Any]]:
    """What each replica of an application says of itself; empty when it does not run."""
    status = serve.status().applications.get(application)
    if status is None or status.status.value not in _ALIVE:
        return []
    try:
        replies = Replicas(application).call("describe", timeout_s=5)
    except (RayServeException, TimeoutError):
        return []
    return [reply for reply in replies if isinstance(reply, dict)]


def describe_fusion(ensemble: str) -> list[dict[str, Any]]:
    """What each fusion replica says of itself; empty when the ensemble does not run."""
    return describe(ensemble)


def describe_member(ensemble: str, member: str) -> list[dict[str, Any]]:
    """What each of a member's replicas says of itself."""
    known = Registry(ClusterStore()).history(ensemble)
    return describe(known[-1].apps[member]) if known and member in known[-1].apps else []


def running_replicas(application: str) -> int:
    """How many of an application's replicas Serve has brought up."""
    deployments = serve.status().applications[application].deployments.values()
    return sum(found.replica_states.get("RUNNING", 0) for found in deployments)  # type: ignore[call-overload]
