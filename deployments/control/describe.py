"""What runs on the cluster this process is connected to: ensembles, their fusion replicas, their members' replicas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from quorate.deployments.control.ray_private import ClusterStore, app_states
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.errors import DeployError
from quorate.deployments.records.registry import Record, Registry, is_inside
from quorate.deployments.rollout.rollout import CONTROL_TIMEOUT_S

VIEW_TIMEOUT_S = 5.0
# Of a member that fusion replicas are to run themselves, and one has not loaded.
_NOT_YET: dict[str, Any] = {"device": "", "memory": {}, "failures": 0, "last_error": "", "busy_s": 0.0}


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


def describe_online(ensemble: str, whole: bool) -> dict[str, Any]:
    """What weights that learn have come to, see ``read_report``; empty where nothing learns.

    Args:
        whole: what was before, too.
    """
    from quorate.deployments.learning.online.report import brief, read_report

    registry = Registry(ClusterStore())
    record = registry.latest(ensemble)
    if record is None or record.live.spec.online.mode == "off":
        return {}
    found = read_report(registry.online(ensemble))
    return found if whole else brief(found)


def describe_members(ensemble: str) -> dict[str, list[dict[str, Any]]]:
    """What each of the members' replicas that answers soon says of itself, by member."""
    record = Registry(ClusterStore()).latest(ensemble)
    if record is None:
        return {}
    apps = record.live.members_by_app
    with ThreadPoolExecutor(len(apps)) as pool:  # a member that is late makes the others' views no later
        views = dict(zip(apps, pool.map(partial(_view_app, record), apps), strict=True))
    return {name: [_of(name, found) for found in views[app]] for name, app in record.live.apps.items()}


def describe_member(ensemble: str, member: str) -> list[dict[str, Any]]:
    """The same of one member; nothing where there is none of its name."""
    record = Registry(ClusterStore()).latest(ensemble)
    if record is None or member not in record.live.apps:
        return []
    return [_of(member, found) for found in _view_app(record, record.live.apps[member])]


def _view_app(record: Record, app: str) -> list[dict[str, Any]]:
    """What replicas of an application say, those of the doors where they run its members themselves."""
    return _view(record.door_apps.values() if is_inside(app) else [app])


def _of(member: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a replica says of one of the members that it runs."""
    if "inside" in found:
        place = {"replica": "inside the doors", "gpu_ids": [], "queued_rows": found["queued_rows"]}
        kept = {key: found[key] for key in ("pid", "quorate", "node", "fingerprint")}
        return {**kept, **place, **found["inside"].get(member, _NOT_YET)}
    return {
        **{key: said for key, said in found.items() if key != "members"},
        **found.get("members", {}).get(member, {}),
    }


def _run(apps: Iterable[str]) -> bool:
    known = app_states()
    return any(app in known and known[app].status == "RUNNING" for app in apps)


def _view(apps: Iterable[str]) -> list[dict[str, Any]]:
    return _descriptions(Replicas(apps).call("describe", timeout_s=VIEW_TIMEOUT_S))


def _descriptions(replies: list[Any]) -> list[dict[str, Any]]:
    return [reply for reply in replies if isinstance(reply, dict)]
