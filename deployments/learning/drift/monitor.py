"""One output under watch: what its answers are compared with, how they stand, and who has changed.

What is seen without labels and what with is watched apart: each side has tests of its own. What the given reference
does not know is learned from the first answers.
"""

# R rows

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.drift.naming import Named, named
from quorate.deployments.learning.drift.reference import (
    KINDS,
    Known,
    Reference,
    numbers_of,
    reference_of,
    scaled,
    statistics_of,
)
from quorate.deployments.learning.drift.rows import Rows, Subject, draws
from quorate.deployments.learning.drift.sequential_tests import Change, SequentialTests
from quorate.deployments.learning.drift.statistics import Kind, Statistic

# What first answers may hold until there are enough of them for a reference.
LEARNED_BYTES = 64 << 20
FIRST_ANSWERS = "the first answers"
# Statistics of which there are many; those that are as usual are not told one by one.
OF_CLASSES = ("classes", "dissent", "labels", "errors")


@dataclass(frozen=True)
class Settings:
    """How closely to look; see ``DriftSpec``."""

    kinds: tuple[str, ...] = tuple(KINDS)
    rows: int = 1000
    false_alarms: float = 0.05
    tolerance: float = 0.1


@dataclass
class _Side:
    """Statistics that are known at the same time.

    Attributes:
        statistics: all of them, in the order of their numbers.
        reference: what is known of what was usual.
        learning: those whose reference is being learned, from the rows ``first``.
        tests: of those whose reference is known, and ``places`` of these among all.
        draws: so far.
    """

    kinds: Sequence[Kind]
    statistics: Sequence[Statistic]
    false_alarms: float
    reference: dict[Statistic, Known]
    learning: list[Statistic]
    tests: SequentialTests
    places: NDArray[np.intp] = field(init=False)
    first: list[Rows] = field(default_factory=list)
    learned: int = 0
    draws: int = 0

    def __post_init__(self) -> None:
        self.use(self.tests)

    def use(self, tests: SequentialTests) -> None:
        """Test these from now on."""
        place = {one: at for at, one in enumerate(self.statistics)}
        self.tests, self.places = tests, np.array([place[one] for one in tests.statistics], np.intp)


class Monitor:
    """Watches one output of one revision."""

    def __init__(self, subject: Subject, settings: Settings, given: Reference | None = None, fusion: str = ""):
        """Args:
        given: what is known before; the rest is learned from the first ``settings.rows`` answers.
        fusion: whose answers are watched, as of ``Reference``.
        """
        self.subject, self._settings, self._fusion = subject, settings, fusion
        if given is not None and given.fusion != fusion:
            given = given.of_members(subject.members)
        self.source = FIRST_ANSWERS if given is None else given.source
        kinds = [KINDS[name] for name in settings.kinds]
        sides = [[kind for kind in kinds if kind.labelled == labelled] for labelled in (False, True)]
        self._shares = sum(bool(kind.statistics(subject)) for kind in kinds)
        self._sides = [self._side(side, given) for side in sides]

    def _side(self, kinds: Sequence[Kind], given: Reference | None) -> _Side:
        every = statistics_of(self.subject, kinds)
        alarms = self._settings.false_alarms * len({one.kind for one in every}) / max(self._shares, 1)
        known = {} if given is None else {one: given.known[one] for one in every if one in given.known}
        unknown = [one for one in every if given is None or not (one in known or given.tells_of(one))]
        tests = SequentialTests(known, alarms, self._settings.tolerance, every)
        return _Side(kinds, every, alarms, known, unknown, tests)

    def see(self, rows: Rows) -> list[Change]:
        """Take rows: of answers, or those of which it is known now what is true."""
        side = self._sides[rows.truth is not None]
        found = self._test(side, rows)
        if side.learning:
            self._learn(side, rows)
        return found

    @property
    def learned(self) -> Reference | None:
        """What was usual, once nothing of it is waited for but labels."""
        if self._sides[0].learning:
            return None
        known = {one: k for side in self._sides for one, k in side.reference.items()}
        return Reference(known, self.source, self._fusion)

    @property
    def watched(self) -> set[tuple[str, str]]:
        """Whose statistics of which kind: members, and the empty name of answers and labels."""
        every = [one for side in self._sides for one in side.statistics]
        return {(name, one.kind) for one in every for name in one.members or ("",)}

    def carry_on(self, before: Monitor) -> None:
        """Go on where the watch over the revision before left off, with what is tested as it was."""
        for mine, old in zip(self._sides, before._sides, strict=True):
            mine.tests.carry_on(old.tests)

    def named(self) -> list[Named]:
        """Who has changed."""
        return named(self.subject.answering, [one for side in self._sides for one in side.tests.alarmed()])

    def report(self) -> dict[str, Any]:
        """How it stands, in JSON's types; of classes only those that have changed."""
        standings = [one for side in self._sides for one in side.tests.standings()]
        told = [one for one in standings if one.alarm or one.statistic.kind not in OF_CLASSES]
        found: dict[str, Any] = {"reference": self.source, "wanted": self._settings.rows}
        for name, side in zip(("answers", "labelled"), self._sides, strict=True):
            found[name] = side.draws
            found[f"{name}_learned"] = side.learned if side.learning else None
        found["statistics"] = [one.to_json() for one in told]
        return found | {"named": [one.to_json() for one in self.named()]}

    def _learn(self, side: _Side, rows: Rows) -> None:
        side.first.append(rows)
        side.learned += _count(rows)
        if side.learned < self._settings.rows and sum(part.nbytes for part in side.first) < LEARNED_BYTES:
            return
        found = reference_of(self.subject, side.kinds, side.first).known
        side.reference |= {one: found[one] for one in side.learning if one in found}
        known = {one: side.reference[one] for one in side.statistics if one in side.reference}
        tests = SequentialTests(known, side.false_alarms, self._settings.tolerance, side.statistics)
        tests.carry_on(side.tests)
        side.use(tests)
        side.first, side.learning = [], []

    def _test(self, side: _Side, rows: Rows) -> list[Change]:
        side.draws += _count(rows)
        if not side.tests.statistics:
            return []
        numbers = numbers_of(self.subject, side.kinds, rows)[:, side.places]
        drawn, ends = draws(scaled(numbers, side.tests.lowest, side.tests.width), rows.answers)
        return side.tests.add(drawn, rows.times_s[ends])


def _count(rows: Rows) -> int:
    return int(np.count_nonzero(np.diff(rows.answers))) + 1 if len(rows) else 0
