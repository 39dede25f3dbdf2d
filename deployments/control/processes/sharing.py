"""What a plan says of members that share a process: what it saves, and what a crash costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from quorate.deployments.control.placement import PlannedApp
from quorate.deployments.control.processes.grouping import measured_for
from quorate.deployments.records.registry import Publication, is_inside


def with_sharing(planned: Sequence[PlannedApp], publication: Publication) -> list[PlannedApp]:
    """The same, and why it is so, of applications whose members share a process or are yet to be measured."""
    waiting = [name for name in measured_for(publication.spec) if name not in publication.measured.jobs]
    found = []
    for app in planned:
        members = publication.members_by_app.get(app.app, ())
        said = [app.why, _shared(app.app, members, publication), app.needs.passes, _measured_later(members, waiting)]
        found.append(replace(app, why="; ".join(filter(None, said))))
    return found


def _shared(app: str, members: Sequence[str], publication: Publication) -> str:
    if is_inside(app):
        hop_ms = 1e3 * publication.measured.hop_s
        saved = f"no message to another process ({hop_ms:.2g} ms each)"
        return f"{saved}; a crash takes the doors of its node with it until they are back"
    if len(members) < 2:
        return ""
    return f"one message and one process instead of {len(members)}; a crash of one costs all of them"


def _measured_later(members: Sequence[str], waiting: Sequence[str]) -> str:
    found = [name for name in members if name in waiting]
    return f"{', '.join(found)}: measured when deployed, which may place it otherwise" if found else ""
