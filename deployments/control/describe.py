"""What runs on the cluster this process is connected to: ensembles, their fusion replicas, their members' replicas."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException

from quorate.deployments.control.ray_private import ClusterStore
from quorate.deployments.control.registry import Registry
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.control.rollout import CONTROL_TIMEOUT_S
from quorate.deployments.errors import DeployError

VIEW_TIMEOUT_S = 5.0

_ALIVE = ("RUNNING", "UNHEALTHY", "DEPLOYING")


def ensembles() -> list[str]:
    """Names of the ensembles that run on this cluster."""
    return sorted(name for name in serve.status().applications if "." not in name)


def applications(ensemble: str) -> list[str]:
    """The names of an ensemble's Serve applications; the fusion's, which is the ensemble's own, comes first."""
    found = [name for name in serve.status().applications if name == ensemble or name.startswith(f"{ensemble}.")]
    return sorted(found, key=len)


def describe(application: str) -> list[dict[str, Any]]:
    """What each replica of an application says of itself; empty when it does not run.

    Raises:
        DeployError: it runs, but a replica is too busy to answer; taken for one that does not run it would be replaced.
    """
    replies = _ask(application, CONTROL_TIMEOUT_S)
    if any(isinstance(reply, TimeoutError) for reply in replies) and _state(application) == "RUNNING":
        found = f"{application} runs, but a replica has not answered for {CONTROL_TIMEOUT_S:g} s"
        raise DeployError(f"{found}; see quorate status, and try again")
    return _descriptions(replies)


def describe_fusion(ensemble: str) -> list[dict[str, Any]]:
    """What each fusion replica that answers soon says of itself; to look at, not to act on."""
    return _descriptions(_ask(ensemble, VIEW_TIMEOUT_S))


def describe_member(ensemble: str, member: str) -> list[dict[str, Any]]:
    """What each of a member's replicas that answers soon says of itself."""
    known = Registry(ClusterStore()).history(ensemble)
    return _descriptions(_ask(known[-1].apps[member], VIEW_TIMEOUT_S)) if known and member in known[-1].apps else []


def running_replicas(application: str) -> int:
    """How many of an application's replicas Serve has brought up."""
    deployments = serve.status().applications[application].deployments.values()
    return sum(found.replica_states.get("RUNNING", 0) for found in deployments)  # type: ignore[call-overload]


def _ask(application: str, timeout_s: float) -> list[Any]:
    """What each replica answers, or the exception in place of an answer; empty when none runs."""
    if _state(application) not in _ALIVE:
        return []
    try:
        return Replicas(application).call("describe", timeout_s=timeout_s)
    except RayServeException:
        return []


def _state(application: str) -> str:
    """As Serve calls it; empty for an application that is not there."""
    status = serve.status().applications.get(application)
    return "" if status is None else str(status.status.value)


def _descriptions(replies: list[Any]) -> list[dict[str, Any]]:
    return [reply for reply in replies if isinstance(reply, dict)]
