"""What runs on the cluster this process is connected to: ensembles, their fusion replicas, their members' replicas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quorate.deployments.control.ray_private import ClusterStore, app_states
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.errors import DeployError
from quorate.deployments.records.registry import Registry
from quorate.deployments.rollout.rollout import CONTROL_TIMEOUT_S

VIEW_TIMEOUT_S = 5.0


def ensembles() -> list[str]:
    """Names of the ensembles that run on this cluster. Serve may run other people's applications beside them."""
    return list(Registry(ClusterStore()).records())


def applications(ensemble: str) -> list[str]:
    """The names of an ensemble's Serve applications, those that end excepted; its live revision may not use all."""
    ours = re.compile(rf"{re.escape(ensemble)}\.[^.]+\.[0-9a-f]{{8}}")
    found = app_states().items()
    return sorted(name for name, app in found if ours.fullmatch(name) and app.status != "DELETING")


def describe(apps: Iterable[str]) -> list[dict[str, Any]]:
    """What each replica of applications says of itself; empty when none runs.

    Raises:
        DeployError: one runs, but is too busy to answer; taken for one that does not run it would be replaced.
    """
    apps = list(apps)
    replies = Replicas(apps).call("describe", timeout_s=CONTROL_TIMEOUT_S)
    if any(isinstance(reply, TimeoutError) for reply in replies) and _run(apps):
        found = f"{', '.join(apps)} runs, but a replica has not answered for {CONTROL_TIMEOUT_S:g} s"
        raise DeployError(f"{found}; see quorate status, and try again")
    return _descriptions(replies)


def describe_fusion(ensemble: str) -> list[dict[str, Any]]:
    """What each fusion replica that answers soon says of itself; to look at, not to act on."""
    record = Registry(ClusterStore()).latest(ensemble)
    return [] if record is None else _view(record.door_apps.values())


def describe_members(ensemble: str) -> dict[str, list[dict[str, Any]]]:
    """What each of the members' replicas that answers soon says of itself, by member."""
    record = Registry(ClusterStore()).latest(ensemble)
    if record is None:
        return {}
    apps = record.live.apps
    with ThreadPoolExecutor(len(apps)) as pool:  # a member that is late makes the others' views no later
        return dict(zip(apps, pool.map(lambda app: _view([app]), apps.values()), strict=True))


def describe_member(ensemble: str, member: str) -> list[dict[str, Any]]:
    """The same of one member; nothing where there is none of its name."""
    record = Registry(ClusterStore()).latest(ensemble)
    return [] if record is None or member not in record.live.apps else _view([record.live.apps[member]])


def _run(apps: Iterable[str]) -> bool:
    known = app_states()
    return any(app in known and known[app].status == "RUNNING" for app in apps)


def _view(apps: Iterable[str]) -> list[dict[str, Any]]:
    return _descriptions(Replicas(apps).call("describe", timeout_s=VIEW_TIMEOUT_S))


def _descriptions(replies: list[Any]) -> list[dict[str, Any]]:
    return [reply for reply in replies if isinstance(reply, dict)]
