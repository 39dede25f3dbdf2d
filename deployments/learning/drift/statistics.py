"""What is looked at of answers without labels: a number of each row for each statistic.

A member that changes changes its distance from all others, while these stay as far from each other as they were: that
is how it is told who has changed. A distance from the fused answer, which moves along, would blame the others, too.
"""

# M members, R rows, T tokens, C classes, S statistics

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.drift.rows import ONE_CLASS, TOKENS, Floats, Mask, Rows, Subject

Array = NDArray[Any]
# Each member is compared with so many of those behind it by name at most: with 17 members all pairs.
MOST_PARTNERS = 8
# Of more classes than this neighbours are counted together.
MOST_GROUPS = 100


@dataclass(frozen=True)
class Statistic:
    """One number of each row.

    Attributes:
        kind: such as ``disagreement``.
        members: that it is of: two of a distance, none where it is of the answers.
        about: a class, where it is of one.
    """

    kind: str
    members: tuple[str, ...] = ()
    about: str = ""

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"kind": self.kind, "members": [*self.members], "about": self.about}


class Kind(Protocol):
    """Statistics of one kind.

    Attributes:
        labelled: whether they need to know what is true.
        both: whether less is drift, too, and not only more.
    """

    name: str
    labelled: bool
    both: bool

    def span(self, subject: Subject) -> tuple[float, float] | None:
        """Lowest and highest number there can be; None where the reference says what is usual."""

    def statistics(self, subject: Subject) -> list[Statistic]:
        """What there is of it; none where it has no meaning."""

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        """(R, S), NaN where a row has no such number."""


class Disagreement:
    """How far two members are from each other: total variation of classes, of values the mean difference."""

    name, labelled, both = "disagreement", False, True

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return (0.0, 1.0) if subject.of_classes else None

    def statistics(self, subject: Subject) -> list[Statistic]:
        names = subject.answering if subject.of_classes or subject.of_values else ()
        return [Statistic(self.name, (names[a], names[b])) for a, b in pairs(len(names))]

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        given = rows.given
        found = [
            np.where(given[a] & given[b], distance(subject, rows.outputs[a], rows.outputs[b], rows), np.nan)
            for a, b in pairs(len(subject.answering))
        ]
        return np.stack(found, axis=1)


class Confidence:
    """The largest probability of each member and of the answer; of several labels a row the mean over them."""

    name, labelled, both = "confidence", False, True

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return 0.0, 1.0

    def statistics(self, subject: Subject) -> list[Statistic]:
        return of_each(self.name, subject) if subject.of_classes else []

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        return np.stack(
            [np.where(known, sureness(subject, values, rows), np.nan) for values, known in answers(subject, rows)], 1
        )


class Classes:
    """Whether a class is the one that a member, or the answer, says; of tokens the share that is."""

    name, labelled, both = "classes", False, True

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return 0.0, 1.0

    def statistics(self, subject: Subject) -> list[Statistic]:
        if not subject.of_classes:
            return []
        names = group_names(subject.classes)
        return [Statistic(self.name, one.members, name) for one in of_each(self.name, subject) for name in names]

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        found = []
        for values, known in answers(subject, rows):
            found.append(np.where(known[:, None], said_shares(subject, values, rows), np.nan))
        return np.concatenate(found, axis=1)


class Dissent:
    """Of the rows that a member says a class of, whether more than half of the others say another.

    A class that means something else in one member alone: of many classes this moves nothing else by much.
    """

    name, labelled, both = "dissent", False, False

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return 0.0, 1.0

    def statistics(self, subject: Subject) -> list[Statistic]:
        if subject.task not in ONE_CLASS or len(subject.answering) < 2:
            return []
        names = group_names(subject.classes)
        return [Statistic(self.name, (member,), name) for member in subject.answering for name in names]

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        said, given = rows.outputs.argmax(axis=-1), rows.given
        groups = class_groups(len(subject.classes))
        found = []
        for m in range(len(said)):
            others = given.copy()
            others[m] = False
            count = others.sum(axis=0)
            differ = ((said != said[m]) & others).sum(axis=0)
            known = given[m] & (count > 0)
            mine = (np.arange(groups[-1] + 1) == groups[said[m]][:, None]) & known[:, None]
            found.append(np.where(mine, (2 * differ > count)[:, None], np.nan))
        return np.concatenate(found, axis=1)


class Values:
    """What each member, and the answer, says on average, of values."""

    name, labelled, both = "values", False, True

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return None

    def statistics(self, subject: Subject) -> list[Statistic]:
        return of_each(self.name, subject) if subject.of_values else []

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        found = answers(subject, rows)
        return np.stack([np.where(known, _flat(values).mean(axis=1), np.nan) for values, known in found], axis=1)


class Missing:
    """Whether a member that was asked gave nothing that can be used."""

    name, labelled, both = "missing", False, False

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return 0.0, 1.0

    def statistics(self, subject: Subject) -> list[Statistic]:
        return [Statistic(self.name, (name,)) for name in subject.members]

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        return np.asarray(np.where(rows.asked, ~rows.given, np.nan).T, np.float64)


def pairs(members: int) -> list[tuple[int, int]]:
    """Which members are compared: each with as many others."""
    found = {
        (min(a, b), max(a, b))
        for a in range(members)
        for step in range(1, min(MOST_PARTNERS, members // 2) + 1)
        for b in [(a + step) % members]
    }
    return sorted(found)


def of_each(kind: str, subject: Subject) -> list[Statistic]:
    """One of each member whose own answers are there, and one of the answers."""
    return [*(Statistic(kind, (name,)) for name in subject.answering), Statistic(kind)]


def answers(subject: Subject, rows: Rows) -> list[tuple[Array, Mask]]:
    """Each member's own answers, and those that were given, with (R,) whether they are there; as ``of_each``."""
    own = [(rows.outputs[m], rows.given[m]) for m in range(len(subject.answering))]
    return [*own, (rows.fused, rows.said)]


def distance(subject: Subject, one: Array, other: Array, rows: Rows) -> Floats:
    """(R,) how far two answers are from each other."""
    apart = np.abs(one.astype(np.float64) - other)
    if subject.task in TOKENS:
        return over_tokens(apart.sum(axis=-1) / 2, rows)
    if subject.task in ONE_CLASS:
        return np.asarray(apart.sum(axis=-1) / 2)
    return np.asarray(_flat(apart).mean(axis=1))


def sureness(subject: Subject, values: Array, rows: Rows) -> Floats:
    """(R,) how sure an answer is of what it says."""
    if subject.task == "multilabel":
        return np.asarray(_flat(np.maximum(values, 1 - values)).mean(axis=1, dtype=np.float64))
    most = values.max(axis=-1).astype(np.float64)
    return over_tokens(most, rows) if subject.task in TOKENS else np.asarray(most)


def said_shares(subject: Subject, values: Array, rows: Rows) -> Floats:
    """(R, G) the share of each group of classes in what is said: of one class 0 or 1."""
    groups = class_groups(len(subject.classes))
    if subject.task == "multilabel":
        sizes = np.bincount(groups)
        return np.asarray(_grouped((values >= 0.5).astype(np.float64), groups) / sizes)
    said = values.argmax(axis=-1)
    held = np.arange(groups[-1] + 1) == groups[said][..., None]
    if subject.task not in TOKENS:
        return np.asarray(held, np.float64)
    return np.stack([over_tokens(held[..., g].astype(np.float64), rows) for g in range(held.shape[-1])], axis=1)


def over_tokens(numbers: Floats, rows: Rows) -> Floats:
    """(R,) the mean over the tokens that a row has; NaN where it has none. The answer to what is none is 0."""
    there = rows.fused.sum(axis=-1) > 0.5
    counts = there.sum(axis=1)
    return np.where(counts > 0, (numbers * there).sum(axis=1) / np.maximum(counts, 1), np.nan)


def class_groups(classes: int) -> NDArray[np.intp]:
    """(C,) the group that each class is counted in, in their order."""
    return np.arange(classes) * min(classes, MOST_GROUPS) // classes


def group_names(classes: Sequence[str]) -> list[str]:
    """A class's name, or the first and the last of several."""
    groups = class_groups(len(classes))
    held = [[classes[c] for c in np.flatnonzero(groups == g).tolist()] for g in range(groups[-1] + 1)]
    return [names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}" for names in held]


def _grouped(values: Floats, groups: NDArray[np.intp]) -> Floats:
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    return np.asarray(np.add.reduceat(values, starts, axis=-1))


def _flat(values: Array) -> Array:
    return values.reshape(len(values), -1)
