"""Whether a revision can be computed on what the members of another one gave anyway."""

from __future__ import annotations

from quorate.deployments.engine.revision import Revision
from quorate.deployments.spec.ensemble import EnsembleSpec


def misfit(shadow: Revision, live: Revision) -> str:
    """Why a revision cannot be computed on what the live one's members give, as a sentence; empty where it can."""
    if shadow.spec.wiring != live.spec.wiring:
        return "its inputs, classes, outputs or serving are not those that run: deploy it instead"
    strange = [name for name in shadow.spec.members if name not in live.spec.members]
    if strange:
        return f"{', '.join(strange)} does not run: a shadow shares all members; deploy it instead"
    for name in views_of(live):
        found = _misfit(views_of(shadow)[name], views_of(live)[name])
        if found:
            return found
    return ""


def views_of(revision: Revision) -> dict[str, Revision]:
    """A revision's outputs by name, each as its only one; the empty name where it has one."""
    return dict(revision.views) or {"": revision}


def _misfit(shadow: Revision, live: Revision) -> str:
    one, other = shadow.spec, live.spec
    more = [name for name in shadow.asked if name not in live.asked]
    if more:
        return (
            f"{', '.join(more)} gives the live fusion nothing, and asking for a shadow alone would take calls of its "
            "own: give it a weight above 0 in what is live, or leave it out of the shadow"
        )
    for name in shadow.asked:
        other_one = _differs(name, one, other)
        if other_one:
            return f"{other_one} is not the one that runs: a shadow shares all members; deploy it instead"
    if _of_features(shadow) != _of_features(live) or (_of_features(live) and shadow.asked != live.asked):
        return f"it does not read what the live fusion reads: features of {', '.join(live.asked)}, side by side"
    return ""


def _differs(name: str, one: EnsembleSpec, other: EnsembleSpec) -> str:
    """The first of a member, and what it reads, that two specs have otherwise."""
    for node in sorted({name, *one.upstream(name), *other.upstream(name)}):
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
