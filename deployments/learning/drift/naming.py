"""Who has changed, by which statistics have: a member, most members alike, or the answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from quorate.deployments.learning.drift.sequential_tests import Change
from quorate.deployments.learning.drift.statistics import Disagreement, Statistic, pairs

# In the place of a member's name.
ANSWERS = ""


@dataclass(frozen=True)
class Named:
    """Who has changed in what.

    Attributes:
        member: empty for the answers, or for labels.
        kind: of statistic.
        about: the classes, where it is of classes.
        alike: most members have changed in the same way: what is asked has, rather than one of them.
    """

    member: str
    kind: str
    about: tuple[str, ...] = ()
    alike: bool = False

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return asdict(self) | {"about": [*self.about]}


def named(members: Sequence[str], alarmed: Iterable[tuple[Statistic, bool]]) -> list[Named]:
    """Who has changed.

    A distance between two members has changed when either has. Who is further from, or nearer to, more than half of
    those that it is compared with has changed itself, as long as fewer than half of these have.
    """
    loud = list(alarmed)
    own: dict[tuple[str, str], list[str]] = defaultdict(list)
    sides: dict[tuple[str, str, bool], set[str]] = defaultdict(set)
    for one, up in loud:
        if one.kind == Disagreement.name:
            continue
        member = one.members[0] if one.members else ANSWERS
        own[member, one.kind].append(one.about)
        if member:
            sides[one.kind, one.about, up].add(member)
    shared = {(kind, m) for (kind, _, _), all_of in sides.items() if _most(len(all_of), len(members)) for m in all_of}
    apart = _apart(members, [one for one, _ in loud if one.kind == Disagreement.name])
    alike = len(members) > 2 and _most(len(apart), len(members))
    found = [Named(m, Disagreement.name, alike=alike) for m in apart]
    found += [
        Named(m, kind, tuple(sorted(about)) if any(about) else (), (kind, m) in shared)
        for (m, kind), about in own.items()
    ]
    return sorted(found, key=lambda one: (one.member == ANSWERS, one.member, one.kind))


def _most(some: int, of: int) -> bool:
    return some > 1 and 2 * some > of


def _apart(members: Sequence[str], loud: Sequence[Statistic]) -> list[str]:
    partners = Counter(members[m] for pair in pairs(len(members)) for m in pair)
    changed = Counter(name for one in loud for name in one.members)
    return [name for name in members if 2 * changed[name] > partners[name]]


def sentence(changes: Sequence[Change], names: Sequence[Named]) -> str:
    """What has begun, or ended, in a line."""
    return "; ".join([_told(one) for one in _worst(changes)] + _who(names))


def _who(names: Sequence[Named]) -> list[str]:
    by_member: dict[str, list[str]] = defaultdict(list)
    for one in names:
        if one.member and not one.alike:
            by_member[one.member].append(one.kind)
    found = [f"{member} is another than it was ({', '.join(kinds)})" for member, kinds in by_member.items()]
    alike = sorted({one.kind for one in names if one.alike})
    return found + ([f"most members alike ({', '.join(alike)}): what is asked may be another"] if alike else [])


def _worst(changes: Sequence[Change], most: int = 6) -> Sequence[Change]:
    """Some of many, those that are furthest from what they were first."""
    return sorted(changes, key=lambda one: -abs(one.recent - one.reference))[:most]


def _told(one: Change) -> str:
    numbers = f"{one.reference:.3g} to {one.recent:.3g}"
    since = datetime.fromtimestamp(one.since_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    ended = "" if one.raised else " is as it was"
    return f"{describe(one.statistic)}{ended}: {numbers}, since about {since} UTC"


def describe(one: Statistic) -> str:
    """A statistic in words."""
    who = one.members[0] if one.members else "the answers"
    match one.kind:
        case "disagreement":
            return f"distance of {one.members[0]} and {one.members[1]}"
        case "classes":
            return f"share of {one.about} by {who}"
        case "dissent":
            return f"share of {one.about} by {who} that others contradict"
        case "labels":
            return f"share of {one.about} in the labels"
        case "errors":
            return f"wrong answers of {one.about}"
    return f"{one.kind} of {who}"


def by_kind(names: Sequence[Named]) -> Mapping[tuple[str, str], int]:
    """How much of each member has changed, by kind."""
    return {(one.member, one.kind): max(len(one.about), 1) for one in names}
