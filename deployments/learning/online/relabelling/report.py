"""What is said of classes that labels call otherwise than members do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from quorate.deployments.learning.online.dates import date_of
from quorate.deployments.learning.online.relabelling.matrix import Named

# What stays called by its own name, but for so much, is; and what is called another by so much is called that.
_NEARLY, _MOSTLY = 0.1, 0.75


class _Change(Protocol):
    """What went live (``publishing.Change``)."""

    @property
    def time_us(self) -> int: ...

    @property
    def decided_by(self) -> int: ...

    @property
    def relabel(self) -> Named: ...


def called_otherwise(deployed: Named, changes: Sequence[_Change], learned: Named) -> list[dict[str, Any]]:
    """Each class that is answered, or believed to be labelled, as another, in JSON's types.

    Args:
        deployed: what classes are called in the revision that somebody deployed.
        changes: what went live since.
        learned: what labels are believed to call them now.

    Returns:
        Of each ``class``: ``answered_as`` and ``labelled_as`` (by class, its share), ``since_us`` it is answered so,
        None where somebody deployed it or it is not, and from how many ``labels``.
    """
    lived: list[Named] = [deployed, *(one.relabel for one in changes)]
    live, found = lived[-1], []
    for old in sorted({*live, *learned}):
        answered, labelled = dict(live.get(old, {old: 1.0})), dict(learned.get(old, {old: 1.0}))
        as_ever = answered.get(old, 0.0) > 1 - _NEARLY
        if as_ever and labelled.get(old, 0.0) > 1 - _NEARLY:
            continue
        begun = max((at + 1 for at, one in enumerate(lived) if one.get(old) != live.get(old)), default=0)
        change = changes[begun - 1] if begun and not as_ever else None
        found.append({
            "class": old, "answered_as": answered, "labelled_as": labelled,
            "since_us": None if change is None else change.time_us,
            "labels": 0 if change is None else change.decided_by,
        })  # fmt: skip
    return found


def lines(relabelled: Sequence[Mapping[str, Any]], shadow: bool) -> Iterator[str]:
    """One of each that ``called_otherwise`` gave.

    Args:
        shadow: nothing goes live: it is told what would have.
    """
    for one in relabelled:
        name, answered, labelled = one["class"], shares(one["answered_as"]), shares(one["labelled_as"])
        yield f"{name} is labelled {labelled}: {_answered(one, name, answered, shadow)}"


def shares(column: Mapping[str, float]) -> str:
    """A class that most is called, or what it is called by shares."""
    name, most = max(column.items(), key=lambda one: one[1])
    if most >= _MOSTLY:
        return name
    return ", ".join(f"{one} {share:.2f}" for one, share in sorted(column.items(), key=lambda one: -one[1]))


def said_of(relabel: Named) -> str:
    """What classes are answered as in a revision; empty where each is by its name."""
    changed = ((old, shares(column)) for old, column in relabel.items())
    return ", ".join(f"{old} answered as {new}" for old, new in changed if new != old)


def _answered(one: Mapping[str, Any], name: str, answered: str, shadow: bool) -> str:
    would = "would be answered" if shadow else "answered"
    if answered == name:
        return "not answered so; tests have not shown it" if not shadow else "nothing would have gone live"
    so = "so" if answered == shares(one["labelled_as"]) else answered
    if one["since_us"] is None:
        return f"answered {so} as it was deployed"
    return f"{would} {so} since {date_of(one['since_us'])}, by {one['labels']} labels"
