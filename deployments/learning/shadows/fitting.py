"""Whether a revision can be computed on what the members of another one gave, and which it has to ask itself."""

from __future__ import annotations

from collections.abc import Collection

from quorate.deployments.engine.revision import Revision
from quorate.deployments.spec.ensemble import EnsembleSpec


def misfit(shadow: Revision, live: Revision, own: Collection[str] = ()) -> str:
    """Why a revision cannot be computed beside the live one, as a sentence; empty where it can.

    Args:
        own: members that it asks itself, whatever the live one's give.
    """
    if shadow.spec.wiring != live.spec.wiring:
        return "its inputs, classes, outputs or serving are not those that run: deploy it instead"
    strange = [name for name in shadow.spec.members if name not in live.spec.members and name not in own]
    if strange:
        return f"{', '.join(strange)} does not run, and is not asked for it alone"
    for name in views_of(live):
        found = _misfit(views_of(shadow)[name], views_of(live)[name], own)
        if found:
            return found
    return ""


def own_members(shadow: Revision, live: Revision) -> tuple[str, ...]:
    """The members that a shadow has to ask itself: those that do not run, are others, or give the live fusion nothing.

    Args:
        shadow: of the live one's wiring.
    """
    found = set()
    for name, view in views_of(shadow).items():
        beside = views_of(live)[name]
        found |= {m for m in view.asked if m not in beside.asked or _differs(m, view.spec, beside.spec)}
    return tuple(sorted(found))


def views_of(revision: Revision) -> dict[str, Revision]:
    """A revision's outputs by name, each as its only one; the empty name where it has one."""
    return dict(revision.views) or {"": revision}


def _misfit(shadow: Revision, live: Revision, own: Collection[str]) -> str:
    one, other = shadow.spec, live.spec
    for name in shadow.asked:
        if name in own:
            reads = [source for source in one.members[name].inputs if source not in one.inputs]
            if reads:
                return (
                    f"{name} reads {', '.join(reads)}: what a shadow asks itself reads the request; deploy it instead"
                )
        elif name not in live.asked:
            return f"{name} gives the live fusion nothing, and is not asked for it alone"
        elif found := _differs(name, one, other):
            return f"{found} is not the one that runs, and {name} is not asked for it alone"
    if _of_features(shadow) != _of_features(live):
        return f"it does not read what the live fusion reads: {_read_by(live)}"
    if _of_features(live) and (shadow.asked != live.asked or own):
        return f"it does not read what the live fusion reads: {_read_by(live)}, side by side"
    return ""


def _read_by(live: Revision) -> str:
    return f"{'features' if _of_features(live) else 'outputs'} of {', '.join(live.asked)}"


def _differs(name: str, one: EnsembleSpec, other: EnsembleSpec) -> str:
    """The first of a member, and what it reads, that two specs have otherwise."""
    behind: frozenset[str] = other.upstream(name) if name in other.members else frozenset()
    for node in sorted({name} | one.upstream(name) | behind):
        if node in one.members and node in other.members:
            same = one.job(node) == other.job(node)
        else:
            same = one.all_fusions.get(node) == other.all_fusions.get(node) and _files(node, one) == _files(node, other)
        if not same:
            return node
    return ""


def _files(fusion: str, spec: EnsembleSpec) -> dict[str, str]:
    """Digests of a fusion's files."""
    of = f"{spec.field_of(fusion)}."
    return {field: digest for field, digest in spec.digests.items() if field.startswith(of)}


def _of_features(revision: Revision) -> bool:
    return revision.graph.output.reads_features
