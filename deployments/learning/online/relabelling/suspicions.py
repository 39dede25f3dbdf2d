"""When a class that labels call otherwise is answered so: tests of each such class, with those that it changes with.

What is suspected must be shown by rows that were answered since, each read as what was believed when it was answered,
by evidence that holds at all looks (``MeanBet``): that answers by the new name lose less than the live ones, and that
all answers, so read, know labels at least a quarter as well as answers did before. Labels that have become noise are
called by what is most frequent as well, and are known no better for it. Where labels never had to do with answers,
nothing can be called otherwise. Classes that take each other's names are tested together: one alone makes the other
worse.
"""

# M members, N labels

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.online.label_sense import LabelSense
from quorate.deployments.learning.online.mixture import LEAST, pooled
from quorate.deployments.learning.online.relabelling.likely import Likely
from quorate.deployments.learning.online.relabelling.matrix import Column, Relabels, as_live
from quorate.deployments.learning.online.relabelling.reading import Read, cells_by
from quorate.deployments.rollout.confidence_sequence import MeanBet

Floats = NDArray[np.float64]
# Of all that is ever suspected: the k-th may be believed by chance with ALPHA / (k (k + 1)).
ALPHA = 0.01
# So many classes at a time.
MOST = 8
# Answers knew labels in these many, or in twice as many, before a suspicion.
BEFORE = 2000
# So much of what answers knew of labels before, those that classes are called otherwise in have to know at least.
AS_WELL = 0.25
# In nats a row.
LEAST_GAIN = 0.001


class _Soon(MeanBet):
    """A bet on what has begun already."""

    WAIT = 4


@dataclass(frozen=True)
class Answered:
    """N labels with what members gave.

    Attributes:
        cells: (N, M) to the class of that name.
        fresh: (N,) bool, rows that were answered since classes are called as they are live.
        weights: (N, M) that were live when each was answered.
    """

    cells: Floats
    present: NDArray[np.bool_]
    truth: NDArray[np.int64]
    likely: Likely
    fresh: NDArray[np.bool_]
    weights: Floats


@dataclass(frozen=True)
class Proven:
    """Classes that are to be answered otherwise.

    Attributes:
        columns: each as what.
        gain: in nats a row, of so many ``labels``.
    """

    columns: Mapping[int, Column]
    gain: float
    labels: int


@dataclass(frozen=True)
class _Known:
    """What answers knew of labels before: log frequencies of these, and by how much more answers knew each."""

    frequencies: Mapping[int, float]
    unseen: float
    nats: float

    def log_frequency(self, truth: NDArray[np.int64]) -> Floats:
        """(N,) of each label."""
        return np.array([self.frequencies.get(one, self.unseen) for one in truth.tolist()])


class Suspicions:
    """Of one output. What is suspected begins and ends with what is believed."""

    def __init__(self, pinned: Relabels, classes: int):
        self._pinned = pinned
        self._open: dict[tuple[int, ...], _Suspicion] = {}
        self._before, self._begun = _Before(classes), 0

    def look(self, read: Read, rows: Answered, live: Relabels) -> NDArray[np.bool_]:
        """Take N labels under what is live; (N,) after which of them something is proven."""
        proven = np.zeros(len(rows.truth), np.bool_)
        ends = np.flatnonzero(np.diff(read.before)) + 1
        for start, stop in zip([0, *ends.tolist()], [*ends.tolist(), len(rows.truth)], strict=True):
            part = slice(start, stop)
            self._follow(read.versions[int(read.before[start])], live)
            for one in self._open.values():
                proven[part] |= one.take(read, rows, part)
            self._before.add(rows.truth[part], read.known[part])
        return proven

    def proven(self) -> list[Proven]:
        """What is to be answered as what."""
        return [one.proven() for one in self._open.values() if one.holds]

    def _follow(self, believed: Relabels, live: Relabels) -> None:
        """Open and close suspicions."""
        together = _together(list(believed.unlike(live))[:MOST], believed, live)
        self._open = {olds: one for olds, one in self._open.items() if olds in together and one.live == live}
        for olds in together:
            if olds not in self._open:
                self._begun += 1
                level = ALPHA / (self._begun * (self._begun + 1))
                self._open[olds] = _Suspicion(olds, live, self._pinned, self._before.known(), level)
        for one in self._open.values():
            one.now = believed


def _together(unlike: Sequence[int], believed: Relabels, live: Relabels) -> list[tuple[int, ...]]:
    """Classes in groups: one that is called, or answered, as another that is called otherwise, too, is with that."""
    groups = [{old} for old in unlike]
    for old in unlike:
        near = {old, *believed.column(old), *live.column(old)} & set(unlike)
        joined = set().union(*(group for group in groups if group & near))
        groups = [*(group for group in groups if not group & near), joined]
    return sorted(tuple(sorted(group)) for group in groups)


class _Suspicion:
    """Some classes are called otherwise than they are answered.

    Attributes:
        live: what is live while it is tested.
        now: what is believed.
        holds: after the labels so far.
    """

    def __init__(self, olds: tuple[int, ...], live: Relabels, pinned: Relabels, known: _Known | None, level: float):
        self._olds, self.live, self.now = olds, live, live
        self._pinned, self._known, self._needed = pinned, known, -math.log(level)
        self._better = _Soon(LEAST_GAIN)
        self._makes_sense = _Soon(known.nats * AS_WELL) if known is not None else None
        self._gained, self._labels = 0.0, 0
        self.holds = False

    def proven(self) -> Proven:
        """What goes live."""
        columns = {old: self._live_column(self.now, old) for old in self._olds}
        return Proven(columns, self._gained / max(self._labels, 1), self._labels)

    def take(self, read: Read, rows: Answered, part: slice) -> NDArray[np.bool_]:
        """After which of some labels it holds."""
        found = np.full(part.stop - part.start, self.holds)
        if self._known is None or self._makes_sense is None:
            return found
        versions = {int(one): self._tested(read.versions[one]) for one in np.unique(read.used[part])}
        new = {at: self._alone(one) for at, one in versions.items()}
        about = [at for at, one in new.items() if one != self.live]
        counted = rows.fresh[part] & np.isin(read.used[part], about)
        at = np.flatnonzero(counted) + part.start
        if not len(at):
            return found
        given = rows.cells[at], rows.truth[at], rows.likely[at]
        present, used, weights = rows.present[at], read.used[at], rows.weights[at]
        live = _said(self.live.cells(*given), present, weights)
        gains = np.log(_said(cells_by(new, used, *given), present, weights) / live)
        all_read = np.log(_said(cells_by(versions, used, *given), present, weights))
        known = all_read - self._known.log_frequency(rows.truth[at])
        better = self._better.add(_half(gains), np.full(len(at), -math.log(2)))
        sense = self._makes_sense.add(_half(known), np.full(len(at), -math.log(2)))
        sums = self._gained + np.cumsum(gains)
        holds = np.minimum(np.minimum(better, sense), sums) >= self._needed
        self._gained, self._labels, self.holds = float(sums[-1]), self._labels + len(at), bool(holds[-1])
        latest = np.cumsum(counted) - 1  # of those that count, the last at each label
        later = latest >= 0
        found[later] = holds[latest[later]]
        return found

    def _tested(self, believed: Relabels) -> Relabels:
        """All that was believed, as it would be live."""
        unlike = set(believed.unlike(self.live))
        for old in self._olds:
            column = self._live_column(believed, old) if old in unlike else self.live.column(old)
            believed = believed.having(old, column)
        return believed

    def _alone(self, tested: Relabels) -> Relabels:
        """What is live but for these classes."""
        found = self.live
        for old in self._olds:
            found = found.having(old, tested.column(old))
        return found

    def _live_column(self, believed: Relabels, old: int) -> Column:
        return as_live(believed.column(old), self._pinned.column(old))


class _Before:
    """What all members together knew of the latest labels, in two windows of which one is always long."""

    def __init__(self, classes: int):
        self._classes = classes
        self._windows = [LabelSense(), LabelSense()]
        self._labels = 0

    def add(self, truth: NDArray[np.int64], known: Floats) -> None:
        """Labels, and how likely each was before it came."""
        for label, said in zip(truth.tolist(), np.log(known).tolist(), strict=True):
            if self._labels and self._labels % BEFORE == 0:
                self._windows = [self._windows[1], LabelSense()]
            self._labels += 1
            for window in self._windows:
                window.add(label, said)

    def known(self) -> _Known | None:
        """None where labels have not been shown to have to do with answers."""
        window = self._windows[0]
        if window.most < -math.log(ALPHA):
            return None
        total = math.log(window.count + self._classes / 2)
        known = {label: math.log(count + 0.5) - total for label, count in window.counts.items()}
        return _Known(known, math.log(0.5) - total, window.most / window.most_at)


def _said(cells: Floats, present: NDArray[np.bool_], weights: Floats) -> Floats:
    return pooled(weights, np.clip(cells, LEAST, 1.0), present)


def _half(logs: Floats) -> Floats:
    """Of a probability and of what it is compared with, one half each: no row loses more than log 2 so."""
    return np.logaddexp(logs, 0.0) - math.log(2)
