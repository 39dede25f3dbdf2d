"""When weights that were learned go live and when they are taken back, by labels of answers both could have given.

Two things must be shown, each by evidence that holds at all looks (``MeanBet``, and universal inference: Wasserman,
Ramdas, Balakrishnan 2020, PNAS 117(29)): that the weights lose less than the live ones, and that labels have to do with
the answers at all, that is that nobody who only knew how frequent each class is among these labels would have known
them as well. Where labels are noise the weights of the least sure member are the best, and are not wanted. Both
suppose that when a label comes has nothing to do with what it says beyond what members say. What is shown is that
weights were better as they were known to each answer; the newest go live.
"""

# M members, N labels, C classes

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.online.mixture import pooled
from quorate.deployments.rollout.confidence_sequence import MeanBet

Floats = NDArray[np.float64]
# Of all weights that ever go live by chance: the k-th may with ALPHA / (k (k + 1)).
ALPHA = 0.05
# In nats a row: what is no better than this is not worth a change.
LEAST_GAIN = 0.001
# So much of the live weights stays in those that replace them: what these can lose in a row is bounded so.
KEPT = 0.02
# Weights are taken back when they have lost so many nats more than the pinned ones over the latest labels, and none go
# live for as many labels then: over any 2,000 labels in a row that is less than .005 each, but for one row.
BUDGET, LATEST = 8.0, 2000
# Evidence that labels have to do with answers is begun anew after so many: it may end one day.
SENSE = 2000
_CHUNK = 256


@dataclass(frozen=True)
class Labelled:
    """Labels in the order in which they came.

    Attributes:
        answered_us: (N,) when each row was answered, and ``labelled_us`` when its label came.
        probs: (N, M) what each member gave to what was true, and ``present`` (N, M) bool which of them answered.
        truth: (N,) the classes, by number.
        used: (N, M) weights that were learned when the row was answered, and ``after`` (N, M) with its label.
    """

    answered_us: NDArray[np.int64]
    labelled_us: NDArray[np.int64]
    probs: Floats
    present: NDArray[np.bool_]
    truth: NDArray[np.int64]
    used: Floats
    after: Floats

    def __len__(self) -> int:
        return len(self.truth)

    def part(self, rows: slice | NDArray[Any]) -> Labelled:
        """Some of them."""
        return Labelled(*(getattr(self, one.name)[rows] for one in fields(self)))


@dataclass(frozen=True)
class Change:
    """Weights that went live.

    Attributes:
        labels: after how many labels, and ``time_us`` when.
        weights: (M,) that are live from then on.
        taken_back: whether these are the pinned ones again.
        gain: in nats a row over the weights before, of the labels that decided; of what is taken back its own loss.
        decided_by: how many labels these were.
    """

    labels: int
    time_us: int
    weights: Floats
    taken_back: bool
    gain: float
    decided_by: int


@dataclass(frozen=True)
class Wish:
    """Weights that are to go live.

    Attributes:
        weights: (M,) of them.
        back: whether these are the pinned ones again.
        gain, decided_by: as of a ``Change``.
    """

    weights: Floats
    back: bool
    gain: float
    decided_by: int


class Publisher:
    """Decides over weights as labels come; who makes them live says so with ``went_live``.

    Attributes:
        live: (M,) now.
        changes: so far.
        wish: what is to go live after the labels so far; None where nothing is.
    """

    def __init__(self, pinned: Floats, since_us: int = -1):
        """Args:
        pinned: (M,) the weights of the revision that somebody deployed.
        since_us: answers that were given before say nothing of it.
        """
        self._pinned = self.live = pinned / pinned.sum()
        self.changes: list[Change] = []
        self.wish: Wish | None = None
        self._labels = self._rest_until = self._published = 0
        self._since_us = since_us
        self._latest = np.zeros(LATEST)  # by how much each label was worse than by the pinned weights
        self._begin_test()

    def see(self, labels: Labelled) -> None:
        """Take labels; what they wish for goes live at once, between two of them."""
        start = 0
        while start < len(labels):
            start += self._see_some(labels.part(slice(start, start + _CHUNK)), at_once=True)
            if self.wish is not None:
                self.went_live(self.wish, int(labels.labelled_us[start - 1]))

    def look(self, labels: Labelled) -> None:
        """Take labels, all under what is live: what they wish for is there afterwards, as long as they still do."""
        for start in range(0, len(labels), _CHUNK):
            self._see_some(labels.part(slice(start, start + _CHUNK)), at_once=False)

    def went_live(self, wish: Wish, time_us: int) -> Change:
        """Weights are live, for answers from a time on."""
        back = wish.back
        self.live = self._pinned if back else wish.weights
        if not back:
            self._published += 1
        self._since_us = time_us
        change = Change(self._labels, time_us, self.live, back, wish.gain, wish.decided_by)
        self.changes.append(change)
        self._begin_test()
        return change

    def is_live_again(self, changes: Sequence[Change]) -> None:
        """Go on where another has got to, who has made these changes."""
        for change in changes:
            self.went_live(Wish(change.weights, change.taken_back, change.gain, change.decided_by), change.time_us)
        self.changes = list(changes)

    def _begin_test(self) -> None:
        self.wish = None
        self._bet, self._sense, self._worse = MeanBet(LEAST_GAIN), _Sense(), MeanBet()
        self._gained, self._lost, self._tested = 0.0, 0.0, 0

    def _see_some(self, labels: Labelled, at_once: bool) -> int:
        """How many of them were taken: all, or those up to the first wish where that goes live at once."""
        fresh = labels.answered_us >= self._since_us  # others were answered under other weights
        fresh &= (labels.present & (self.live > 0)).any(axis=1)
        places = np.flatnonzero(fresh)
        some = labels.part(places)
        if not len(some):
            self._labels += len(labels)
            return len(labels)
        gains, evidence = self._test(some)
        lost = self._lost_to_pinned(some)
        behind = self._behind(some, lost)
        ahead = evidence >= -math.log(ALPHA / ((self._published + 1) * (self._published + 2)))
        ahead &= self._labels + places >= self._rest_until
        wished = behind | ahead
        at = int(np.argmax(wished)) if at_once and wished.any() else len(some) - 1
        self._gained += float(gains[: at + 1].sum())
        self._lost += float(lost[: at + 1].sum())
        self._tested += at + 1
        self._latest = np.concatenate([self._latest, lost[: at + 1]])[-LATEST:]
        stopped = at_once and bool(wished[at])
        taken = int(places[at]) + 1 if stopped else len(labels)
        self._labels += taken
        self._wish_for(some, at, bool(behind[: at + 1].any()), bool(ahead[at]))
        return taken

    def _wish_for(self, rows: Labelled, at: int, back: bool, ahead: bool) -> None:
        """Weights that are worse are so until they are taken back; better ones have to be so still."""
        if back or (self.wish is not None and self.wish.back):
            over_budget = float(self._latest.sum()) >= BUDGET
            self._rest_until = self._labels + LATEST if over_budget else self._rest_until
            self.wish = Wish(self._pinned, True, -self._lost / self._tested, self._tested)
        elif ahead:
            self.wish = Wish(_blend(rows.after[at], self.live), False, self._gained / self._tested, self._tested)
        else:
            self.wish = None

    def _behind(self, rows: Labelled, lost: Floats) -> NDArray[np.bool_]:
        """(N,) where the live weights have cost too much, or are shown to be worse than the pinned ones."""
        if self.live is self._pinned:
            return np.zeros(len(rows), np.bool_)
        sums = np.cumsum(np.concatenate([self._latest, lost]))
        dear = sums[LATEST:] - np.concatenate([[0.0], sums])[: len(lost)] >= BUDGET
        instead = _blend(self._pinned, self.live)
        gains, lowest = _gains(instead, self.live, rows)
        return np.asarray(dear | (self._worse.add(gains, lowest) >= -math.log(ALPHA)), np.bool_)

    def _test(self, rows: Labelled) -> tuple[Floats, Floats]:
        """(N,) gains of the learned weights over the live ones, and log evidence after each, the lesser of the two."""
        learned = _blend(rows.used, self.live)
        gains, lowest = _gains(learned, self.live, rows)
        known = pooled(learned, rows.probs, rows.present)
        return gains, np.minimum(self._bet.add(gains, lowest), self._sense.add(known, rows.truth))

    def _lost_to_pinned(self, rows: Labelled) -> Floats:
        """(N,) by how many nats the live weights lose more than the pinned ones."""
        there = (rows.present & (self._pinned > 0)).any(axis=1)
        lost = np.zeros(len(rows))
        probs, present = rows.probs[there], rows.present[there]
        lost[there] = np.log(pooled(self._pinned, probs, present) / pooled(self.live, probs, present))
        return lost


def _gains(weights: Floats, live: Floats, rows: Labelled) -> tuple[Floats, Floats]:
    """(N,) nats of (M,) or (N, M) weights over the live ones, and the least that each could have been."""
    gains = np.log(pooled(weights, rows.probs, rows.present) / pooled(live, rows.probs, rows.present))
    there = rows.present & (live > 0)
    ratios = np.where(there, weights / np.where(live > 0, live, 1.0), np.inf).min(axis=1)
    shares = (rows.present @ live) / (weights * rows.present).sum(axis=1)
    return gains, np.minimum(np.log(ratios * shares), 0.0)


class _Sense:
    """Evidence that labels have to do with answers, rather than come independently, each with its own frequency."""

    def __init__(self) -> None:
        self._begin()

    def add(self, probs: Floats, truth: NDArray[np.int64]) -> Floats:
        """(N,) log of the likelihood ratio to the frequencies of all labels so far, after each."""
        found = np.empty(len(probs))
        for at, (gain, label) in enumerate(zip(np.log(probs).tolist(), truth.tolist(), strict=True)):
            if self._count >= SENSE:
                self._begin()
            seen = self._counts.get(label, 0)
            self._counts[label] = seen + 1
            self._count += 1
            self._known += gain
            self._entropy += _entropy(seen + 1) - _entropy(seen)
            found[at] = self._known - (self._entropy - _entropy(self._count))
        return found

    def _begin(self) -> None:
        self._counts: dict[int, int] = {}
        self._count, self._known, self._entropy = 0, 0.0, 0.0


def _entropy(count: int) -> float:
    return count * math.log(count) if count else 0.0


def _blend(learned: Floats, live: Floats) -> Floats:
    return KEPT * live + (1 - KEPT) * learned
