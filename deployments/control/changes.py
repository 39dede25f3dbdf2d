"""What a deployment changes: which applications stay, which start and where, and why."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from quorate.deployments.control.describe import describe
from quorate.deployments.control.placement import (
    Action,
    Node,
    PlannedApp,
    Rooms,
    Wanted,
    nodes_free,
    with_memory,
)
from quorate.deployments.control.processes.grouping import resources_of
from quorate.deployments.control.ray_private import ClusterStore
from quorate.deployments.control.serve_apps import ServeApp, alive_apps, part_of
from quorate.deployments.control.shared_members import runs_for_others
from quorate.deployments.records.memory_needs import MemoryNeeds, Needs, needs_of
from quorate.deployments.records.registry import Publication, Record, is_inside
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import MemberJob, Resources

# Below this share of a node's memory nobody asks what is free: what nodes say of it takes a process on each.
SMALL_SHARE = 0.05


def plan_changes(
    old: Record | None, apps: Sequence[ServeApp], needs: Mapping[str, Needs] | None = None
) -> list[PlannedApp]:
    """Compare applications with those that run, and place those that are new on what nodes have free now.

    Args:
        needs: of memory, what each replica of an application needs, by its name.
    """
    needs = defaultdict(Needs, needs or {})
    rooms, given = Rooms(_nodes([app for app in apps if old is None or app.name not in old.apps], needs)), set[str]()
    alive = alive_apps() if any(app.shared for app in apps) else set()
    wanted_apps = {app.name for app in apps}
    planned = []
    for app in sorted(apps, key=lambda app: -app.resources.num_gpus):
        part = f"doors on {app.node}" if app.node else ", ".join(app.members) or part_of(app.name)
        runs = old is not None and app.name in old.apps
        if runs or (app.shared and app.name in alive):
            planned.append(PlannedApp(part, app.name, "stays", "" if runs else "shared", (), needs=needs[app.name]))
            continue
        before = _before(old, app) - wanted_apps
        need = needs[app.name]
        wanted = [Wanted(part, number, app.resources, app.node, need) for number in range(app.replicas.min)]
        trial = rooms.copy()
        places = trial.place(wanted)
        action: Action = "starts beside the old one" if before else "starts"
        stuck = any(place.problem for place in places)
        free = {one for one in before if old is not None and not runs_for_others(one, old.live.spec.name)}
        if old is not None and free and stuck:
            trial, action = rooms.copy(), "takes the old one's place"
            for one in sorted(free - given):
                for replica in describe([one]):
                    memory_bytes = replica.get("memory", {}).get("model_bytes", 0)
                    trial.give_back(replica["node"], _held(old, one), memory_bytes)
            given |= free
            places = trial.place(wanted)
        rooms = trial
        replaces = tuple(sorted(free)) if action == "takes the old one's place" else ()
        why = _why(old, app) if old is not None and before else ""
        planned.append(PlannedApp(part, app.name, action, why, tuple(places), replaces, need))
    order = {app.name: index for index, app in enumerate(apps)}
    return sorted(planned, key=lambda found: order[found.app])


def recorded_needs(publication: Publication) -> dict[str, Needs]:
    """What a replica of each application of a publication needs of memory, whose files are kept."""
    files = {name: publication.files.of(name).files for name in publication.spec.members}
    sizes = {name: sum(file.size_bytes for file in found) for name, found in files.items()}
    return needs_of_apps(publication.spec, publication.members_by_app, sizes)


def needs_of_apps(
    spec: EnsembleSpec, members_by_app: Mapping[str, Sequence[str]], sizes: Mapping[str, int]
) -> dict[str, Needs]:
    """What a replica of each application needs of memory, as it was measured, or by the size of its members' files.

    Args:
        sizes: of each member's files, in bytes.
    """
    known = MemoryNeeds(ClusterStore())
    groups = {app: [spec.job(name) for name in names] for app, names in members_by_app.items()}
    return {app: needs_of(jobs, sizes, known) for app, jobs in groups.items()}


def _nodes(starting: Sequence[ServeApp], needs: Mapping[str, Needs]) -> list[Node]:
    """What nodes have free; of their memory too, where what starts may be too much for it."""
    nodes = nodes_free()
    needed = [(needs[app.name], app.replicas.min) for app in starting]
    memory, on_gpus = sum(one.memory_bytes * count for one, count in needed), any(one.gpu_bytes for one, _ in needed)
    smallest = min((node.whole_bytes for node in nodes), default=0.0)
    return with_memory(nodes) if on_gpus or memory > SMALL_SHARE * smallest else nodes


def plan_inside(old: Record | None, publication: Publication) -> list[PlannedApp]:
    """The members that fusion replicas run themselves: no application of Serve."""
    found = []
    for app, members in publication.members_by_app.items():
        if is_inside(app):
            stays = old is not None and app in old.live.apps.values()
            found.append(PlannedApp(", ".join(members), app, "stays" if stays else "runs inside the doors", "", ()))
    return found


def _before(old: Record | None, app: ServeApp) -> set[str]:
    """The old applications that one follows: those of its members, or the doors of its node."""
    if old is None:
        return set()
    if app.node:
        return {one for one in old.door_apps.values() if one.split(".")[1] == app.name.split(".")[1]}
    return {old.live.apps[name] for name in app.members if name in old.live.apps} & old.apps


def _held(old: Record, app: str) -> Resources:
    """What a replica of an old application holds."""
    members = old.live.members_by_app.get(app)
    return resources_of(old.live.spec, members) if members else old.live.spec.serving.resources


def _why(old: Record, app: ServeApp) -> str:
    """The fields that differ."""
    if app.node:
        return "inputs, classes, serving, address or ports have changed"
    jobs = MemberJob.read(app.arguments[0])
    changed = {job.name: found for job in jobs if (found := _changed(old, job))}
    if len(jobs) == 1 and changed:
        return f"changed: {', '.join(changed[jobs[0].name])}"
    if changed:
        said = (f"{name}: {', '.join(fields)}" for name, fields in changed.items())
        return f"changed: {'; '.join(said)}"
    if app.members in old.live.members_by_app.values():
        return "another version of Quorate started it"
    return "its members shared no process, or another one"


def _changed(old: Record, after: MemberJob) -> list[str]:
    """The fields of a member that differ."""
    if after.name not in old.live.spec.members:
        return ["new"]
    before = old.live.spec.job(after.name)
    fields = [name for name in type(after.member).model_fields if _differ(before.member, after.member, name)]
    fields += [name for name in ("inputs", "classes") if _differ(before, after, name)]
    prefix = f"members.{after.name}."
    files = {
        field for field in {*before.digests, *after.digests} if before.digests.get(field) != after.digests.get(field)
    }
    return sorted({*fields, *(field.removeprefix(prefix) for field in files)} - {"digest"})


def _differ(before: Any, after: Any, name: str) -> bool:
    """Whether a field does; one that is younger than others is not written where it has its default."""
    return json.dumps(before.model_dump(mode="json").get(name)) != json.dumps(after.model_dump(mode="json").get(name))
