"""What a deployment changes: which applications stay, which start and where, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from quorate.deployments.control.describe import describe
from quorate.deployments.control.placement import Action, PlannedApp, Rooms, Wanted, nodes_free
from quorate.deployments.control.serve_apps import ServeApp, alive_apps
from quorate.deployments.control.shared_members import runs_for_others
from quorate.deployments.records.registry import Record
from quorate.deployments.spec.schema import MemberJob, Resources


def plan_changes(old: Record | None, apps: Sequence[ServeApp]) -> list[PlannedApp]:
    """Compare applications with those that run, and place those that are new on what nodes have free now."""
    rooms = Rooms(nodes_free())
    running = {} if old is None else {app.split(".")[1]: app for app in old.apps}
    alive = alive_apps() if any(app.shared for app in apps) else set()
    planned = []
    for app in sorted(apps, key=lambda app: -app.resources.num_gpus):
        key = app.name.split(".")[1]
        part = f"doors on {app.node}" if app.node else key
        before = running.get(key)
        if before == app.name or (app.shared and app.name in alive):
            planned.append(PlannedApp(part, app.name, "stays", "" if before == app.name else "shared", ()))
            continue
        wanted = [Wanted(part, number, app.resources, app.node) for number in range(app.replicas.min)]
        trial = rooms.copy()
        places = trial.place(wanted)
        action: Action = "starts" if before is None else "starts beside the old one"
        stuck = any(place.problem for place in places)
        if old is not None and before is not None and stuck and not runs_for_others(before, old.live.spec.name):
            trial, action = rooms.copy(), "takes the old one's place"
            for replica in describe([before]):
                trial.give_back(replica["node"], _held(old, key, app))
            places = trial.place(wanted)
        rooms = trial
        planned.append(PlannedApp(part, app.name, action, _why(old, key, app) if before else "", tuple(places)))
    order = {app.name: index for index, app in enumerate(apps)}
    return sorted(planned, key=lambda found: order[found.app])


def _held(old: Record | None, part: str, app: ServeApp) -> Resources:
    """What a replica of the old application holds."""
    if old is None or part not in old.live.spec.members:
        return app.resources if old is None else old.live.spec.serving.resources
    return old.live.spec.members[part].resources


def _why(old: Record | None, part: str, app: ServeApp) -> str:
    """The fields that differ."""
    if old is None or part not in old.live.spec.members:
        return "inputs, classes, serving, address or ports have changed"
    before, after = old.live.spec.job(part), MemberJob.model_validate_json(app.arguments[0])
    fields = [name for name in type(after.member).model_fields if _differ(before.member, after.member, name)]
    fields += [name for name in ("inputs", "classes") if _differ(before, after, name)]
    prefix = f"members.{part}."
    files = {
        field for field in {*before.digests, *after.digests} if before.digests.get(field) != after.digests.get(field)
    }
    changed = sorted({*fields, *(field.removeprefix(prefix) for field in files)} - {"digest"})
    return f"changed: {', '.join(changed)}" if changed else "another version of Quorate started it"


def _differ(before: Any, after: Any, name: str) -> bool:
    """Whether a field does; one that is younger than others is not written where it has its default."""
    return json.dumps(before.model_dump(mode="json").get(name)) != json.dumps(after.model_dump(mode="json").get(name))
