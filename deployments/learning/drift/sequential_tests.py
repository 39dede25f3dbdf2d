"""Tests of many means at once, draw by draw: each may be looked at after every draw, for as long as one likes.

The chance that any of them ever raises an alarm while all means are what they were is at most ``false_alarms``: half of
it is for references that are off by chance (``Known.bounds``), half for bets that come out by chance (``MeanBets``).
Kinds of statistics share it equally, and so do those of a kind. What changes by less than ``tolerance`` standard
deviations is no drift, or every difference would be found one day.
"""

# S statistics, T tests, D draws

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.drift.reference import KINDS, Known
from quorate.deployments.learning.drift.rows import Floats
from quorate.deployments.learning.drift.statistics import Statistic
from quorate.deployments.rollout.confidence_sequence import MeanBets

# What is less than this share of a statistic's span is no drift either.
LEAST_CHANGE = 0.01
# An alarm ends when a test at this level shows that the mean is back.
BACK_ALPHA = 0.05
# Draws over which the mean that is shown reaches back.
RECENT = 100


@dataclass(frozen=True)
class Change:
    """An alarm that begins, or ends.

    Attributes:
        raised: whether it begins.
        up: whether the mean is above the reference, else below.
        reference, recent: the mean that was, and of the last draws.
        since_s: about when it began to be another, in seconds since 1970.
        at_s: when that was known, and ``draws`` after how many.
    """

    statistic: Statistic
    raised: bool
    up: bool
    reference: float
    recent: float
    since_s: float
    at_s: float
    draws: int

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return self.statistic.to_json() | {k: v for k, v in asdict(self).items() if k != "statistic"}


@dataclass(frozen=True)
class Standing:
    """A statistic now.

    Attributes:
        reference, deviation: its mean and standard deviation in the reference.
        recent: the mean of the last draws; None of none.
        draws: how many there were.
        alarm: whether it is another than it was: ``up``, ``down`` or empty.
        since_s: when that began, and ``alarms`` how often it did.
        evidence: of 1 an alarm is raised: the greatest of its log evidence by what is needed.
    """

    statistic: Statistic
    reference: float
    deviation: float
    recent: float | None
    draws: int
    alarm: str
    since_s: float
    alarms: int
    evidence: float

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return self.statistic.to_json() | {k: v for k, v in asdict(self).items() if k != "statistic"}


class SequentialTests:
    """Tests of statistics whose references are known: one for more, and where less is drift too, one for less.

    Attributes:
        statistics: S of them, and ``lowest`` and ``width`` (S,) by which their numbers are scaled.
        alarm: (T,) which tests say so now.
    """

    def __init__(
        self, known: Mapping[Statistic, Known], false_alarms: float, tolerance: float, all_of: Sequence[Statistic] = ()
    ):
        """Args:
        false_alarms: the chance of any while nothing has changed.
        tolerance: in standard deviations of the reference.
        all_of: those that share it, also ones that are not known yet.
        """
        self.statistics, self._known = list(known), list(known.values())
        self.lowest = np.array([one.lowest for one in self._known])
        self.width = np.array([one.width for one in self._known])
        tests = [(s, up) for s, one in enumerate(self.statistics) for up in _sides(one)]
        kinds = Counter(one.kind for one in all_of or known for _ in _sides(one))
        self._of = np.array([s for s, _ in tests], np.intp)
        self._up = np.array([up for _, up in tests], np.bool_)
        share = false_alarms / 2 / max(len(kinds), 1)
        self._alpha = np.array([share / kinds[self.statistics[s].kind] for s, _ in tests])
        margins = [_bound(self._known[s], up, a, tolerance) for (s, up), a in zip(tests, self._alpha, strict=True)]
        self._bound = np.array(margins, np.float64)
        self._bets = MeanBets(len(tests))
        self.alarm = np.zeros(len(tests), np.bool_)
        self._alarms = np.zeros(len(tests), np.int64)
        self._lowest, self._since_s = np.full(len(tests), np.inf), np.zeros(len(tests))
        self._evidence = np.zeros(len(tests))
        self._needed = self._need()
        self._draws = np.zeros(len(self.statistics), np.int64)
        self._recent = np.zeros(len(self.statistics))

    def add(self, draws: Floats, times_s: Floats) -> list[Change]:
        """Take draws, and say which alarms begin and end.

        Args:
            draws: (D, S) scaled as the reference is, NaN where there is none.
            times_s: (D,) when each was.
        """
        found: list[Change] = []
        for draw, at_s in zip(draws, times_s.tolist(), strict=True):
            self._note(draw)
            numbers = draw[self._of]
            tests = np.flatnonzero(~np.isnan(numbers))
            evidence = self._bets.add(self._gains(numbers[tests], tests), tests)
            self._evidence[tests] = evidence
            lower = evidence < self._lowest[tests]
            self._lowest[tests[lower]] = evidence[lower]
            self._since_s[tests[lower & ~self.alarm[tests]]] = at_s
            found += [self._turn(test, at_s) for test in tests[evidence >= self._needed[tests]].tolist()]
        return found

    def carry_on(self, before: SequentialTests) -> None:
        """Go on where another left off, with the tests that both have."""
        there = {(before.statistics[s], up): t for t, (s, up) in enumerate(zip(before._of, before._up, strict=True))}
        places = {one: s for s, one in enumerate(before.statistics)}
        for t, (s, up) in enumerate(zip(self._of, self._up, strict=True)):
            old = there.get((self.statistics[s], up))
            if old is None or before._known[before._of[old]] != self._known[s]:
                continue
            self._bets.take(t, before._bets, old)
            for name in ("alarm", "_alarms", "_lowest", "_since_s", "_evidence"):
                getattr(self, name)[t] = getattr(before, name)[old]
            was = places[self.statistics[s]]
            self._draws[s], self._recent[s] = before._draws[was], before._recent[was]
        self._needed = self._need()

    def standings(self) -> list[Standing]:
        """How each statistic stands."""
        found = []
        for s, (one, known) in enumerate(zip(self.statistics, self._known, strict=True)):
            mine = np.flatnonzero(self._of == s)
            loud = [t for t in mine if self.alarm[t]]
            word = "" if not loud else ("up" if self._up[loud[0]] else "down")
            share = max((float(self._evidence[t] / self._needed[t]) for t in mine if not self.alarm[t]), default=0.0)
            seen = int(self._draws[s])
            found.append(
                Standing(
                    one, known.raw(known.mean), known.deviation * known.width,
                    known.raw(float(self._recent[s])) if seen else None, seen, word,
                    float(self._since_s[loud[0]]) if loud else 0.0, int(self._alarms[mine].sum()), max(share, 0.0),
                )
            )  # fmt: skip
        return found

    def alarmed(self) -> list[tuple[Statistic, bool]]:
        """Statistics that are others than they were, and whether they are above."""
        return [(self.statistics[self._of[t]], bool(self._up[t])) for t in np.flatnonzero(self.alarm)]

    def _note(self, draw: Floats) -> None:
        there = ~np.isnan(draw)
        self._draws += there
        steps = np.where(there, draw - self._recent, 0.0)
        self._recent += steps / np.clip(self._draws, 1, RECENT)

    def _gains(self, numbers: Floats, tests: NDArray[np.intp]) -> Floats:
        """(T,) what is gained by a bet of all, -1 at least.

        In alarm the bet is that the mean is back on the usual side of the bound.
        """
        above, bound = self._up[tests] != self.alarm[tests], self._bound[tests]
        room = np.where(above, bound, 1 - bound)
        gains = np.where(above, numbers - bound, bound - numbers) / np.maximum(room, 1e-12)
        return np.where(room > 0, gains, 0.0)

    def _need(self) -> Floats:
        """(T,) log evidence for the next change of each: of k alarms by chance the k-th has alpha / (k (k + 1))."""
        k = self._alarms + 1
        return np.where(self.alarm, -math.log(BACK_ALPHA), np.log(k * (k + 1)) - np.log(self._alpha))

    def _turn(self, test: int, at_s: float) -> Change:
        s = int(self._of[test])
        one, known = self.statistics[s], self._known[s]
        raised = not bool(self.alarm[test])
        self.alarm[test] = raised
        self._alarms[test] += raised
        self._bets.begin_anew(test)
        self._lowest[test] = np.inf
        self._evidence[test] = 0.0
        self._needed = self._need()
        since_s = float(self._since_s[test]) if raised else at_s
        return Change(
            one, raised, bool(self._up[test]), known.raw(known.mean), known.raw(float(self._recent[s])), since_s, at_s,
            int(self._draws[s]),
        )  # fmt: skip


def _sides(statistic: Statistic) -> Sequence[bool]:
    return (True, False) if KINDS[statistic.kind].both else (True,)


def _bound(known: Known, up: bool, alpha: float, tolerance: float) -> float:
    """What the mean has to be above, or below, to be another one."""
    low, high = known.bounds(alpha)
    change = max(tolerance * known.deviation, LEAST_CHANGE)
    return min(high + change, 1.0) if up else max(low - change, 0.0)
