"""When weights that were learned go live and when they are taken back, by labels of answers both could have given.

Two things must be shown, each by evidence that holds at all looks (``MeanBet``, ``LabelSense``): that the weights lose
less than the live ones, and that labels have to do with the answers at all, that is that nobody who only knew how
frequent each class is among these labels would have known them as well. Where labels are noise the weights of the least
sure member are the best, and are not wanted. Both suppose that when a label comes has nothing to do with what it says
beyond what members say. What is shown is that weights were better as they were known to each answer; the newest go
live, as much of them as ``Exposure`` lets. What classes are called goes live beside them, or by itself, by tests of its
own (``relabelling.suspicions``), and is taken back with them.
"""

# M members, N labels, C classes

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.online.exposure import Exposure
from quorate.deployments.learning.online.label_sense import LabelSense
from quorate.deployments.learning.online.latest_answers import LatestAnswers
from quorate.deployments.learning.online.mixture import LEAST, pooled
from quorate.deployments.learning.online.relabelling.likely import Likely
from quorate.deployments.learning.online.relabelling.matrix import BY_NAME, Relabels
from quorate.deployments.learning.online.relabelling.reading import Read, cells_by
from quorate.deployments.learning.online.relabelling.suspicions import Answered, Suspicions
from quorate.deployments.rollout.confidence_sequence import MeanBet

Floats = NDArray[np.float64]
# Of all weights that ever go live by chance: the k-th may with ALPHA / (k (k + 1)); .05 with what names may.
ALPHA = 0.04
# In nats a row: what is no better than this is not worth a change.
LEAST_GAIN = 0.001
# So much of the live weights, and of the pinned ones, stays in those that replace them: what these can lose in a row is
# bounded so.
KEPT = 0.02
# Weights are taken back when they have lost so many nats more than the pinned ones over the latest answers with labels,
# or any fewer of them, and none go live before that is half of it: with what one row can lose, and what is lost before
# labels come, over any 2,000 answers that is less than .005 each.
BUDGET, LATEST = 6.0, 2000
# Evidence that labels have to do with answers is begun anew after so many: it may end one day.
SENSE = 2000
# How much of what was learned may be live is looked at anew after so many labels.
_CHUNK = 128


@dataclass(frozen=True)
class Labelled:
    """Labels in the order in which they came.

    Attributes:
        answered_us: (N,) when each row was answered, and ``labelled_us`` when its label came.
        probs: (N, M) what each member gave to the class that labels name, and ``present`` (N, M) bool which answered.
        truth: (N,) the classes, by number; ``likely`` and ``read`` how they are read by other names.
        used: (N, M) weights that were learned when the row was answered, and ``after`` (N, M) with its label.
        overtaken: (N,) how many labels came after the row was answered and before its own.
    """

    answered_us: NDArray[np.int64]
    labelled_us: NDArray[np.int64]
    probs: Floats
    present: NDArray[np.bool_]
    truth: NDArray[np.int64]
    used: Floats
    after: Floats
    overtaken: NDArray[np.intp]
    likely: Likely
    read: Read

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
        relabel: what classes are called from then on, as a spec has it.
    """

    labels: int
    time_us: int
    weights: Floats
    taken_back: bool
    gain: float
    decided_by: int
    relabel: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def lived_at(pinned: Floats, changes: Sequence[Change], times_us: NDArray[np.int64]) -> Floats:
    """(N, M) the weights that were live at (N,) times since 1970: the (M,) pinned ones before all changes."""
    lived = np.stack([pinned, *(change.weights for change in changes)])
    since = np.array([change.time_us for change in changes], np.int64)
    return np.asarray(lived[np.searchsorted(since, times_us, side="right")], np.float64)


@dataclass(frozen=True)
class Wish:
    """Weights that are to go live.

    Attributes:
        weights: (M,) of them.
        back: whether these are the pinned ones again.
        gain, decided_by: as of a ``Change``.
        relabels: what classes are to be called.
    """

    weights: Floats
    back: bool
    gain: float
    decided_by: int
    relabels: Relabels = BY_NAME


class Publisher:
    """Decides over weights as labels come; who makes them live says so with ``went_live``.

    Attributes:
        live: (M,) now, and ``relabels`` what classes are called.
        changes: so far.
        wish: what is to go live after the labels so far; None where nothing is.
    """

    def __init__(self, pinned: Floats, since_us: int = -1, relabels: Relabels = BY_NAME, classes: Sequence[str] = ()):
        """Args:
        pinned: (M,) the weights of the revision that somebody deployed.
        since_us: answers that were given before say nothing of it.
        relabels: what classes are called in that.
        classes: their names.
        """
        self._pinned = self.live = pinned / pinned.sum()
        self._pinned_relabels = self.relabels = relabels
        self._lived, self._classes = [relabels], classes
        self._called_since_us = since_us
        self._own = False  # whether what is live is so by itself
        self._suspicions = Suspicions(relabels, len(classes))
        self.changes: list[Change] = []
        self.wish: Wish | None = None
        self._labels = self._published = 0
        self._since_us = since_us
        self._latest = LatestAnswers(LATEST)  # by how much each was worse than by the pinned weights
        self._exposure, self._share, self._refused = Exposure(self._pinned), 1.0, False
        self._begin_test()

    def see(self, labels: Labelled) -> None:
        """Take labels; what they wish for goes live at once, between two of them."""
        start = 0
        while start < len(labels):
            start += self._see_some(self._next(labels, start), at_once=True)
            if self.wish is not None:
                self.went_live(self.wish, int(labels.labelled_us[start - 1]))

    def look(self, labels: Labelled) -> None:
        """Take labels, all under what is live: what they wish for is there afterwards, as long as they still do."""
        start = 0
        while start < len(labels):
            start += self._see_some(self._next(labels, start), at_once=False)

    def _next(self, labels: Labelled, start: int) -> Labelled:
        """Those from one on, up to where it is looked anew how much may be live."""
        return labels.part(slice(start, start + _CHUNK - self._labels % _CHUNK))

    def went_live(self, wish: Wish, time_us: int) -> Change:
        """Weights are live, for answers from a time on."""
        back = wish.back
        self._own = not back
        self.live = self._pinned if back else wish.weights
        self.relabels = self._pinned_relabels if back else wish.relabels
        if not back:
            self._published += 1
        self._since_us = time_us
        if self.relabels != self._lived[-1]:
            self._called_since_us = time_us
        named = self.relabels.to_names(self._classes)
        change = Change(self._labels, time_us, self.live, back, wish.gain, wish.decided_by, named)
        self.changes.append(change)
        self._lived.append(self.relabels)
        self._begin_test()
        return change

    def is_live_again(self, changes: Sequence[Change]) -> None:
        """Go on where another has got to, who has made these changes."""
        for change in changes:
            relabels = Relabels.of_names(change.relabel, self._classes)
            wish = Wish(change.weights, change.taken_back, change.gain, change.decided_by, relabels)
            self.went_live(wish, change.time_us)
        self.changes = list(changes)

    def live_at(self, times_us: NDArray[np.int64]) -> Floats:
        """(N, M) the weights that were live at (N,) times since 1970."""
        return lived_at(self._pinned, self.changes, times_us)

    def live_cells(self, labels: Labelled) -> Floats:
        """(N, M) what members gave to what was true, by what classes were called in the answer to each row."""
        since = np.array([change.time_us for change in self.changes], np.int64)
        lived = np.searchsorted(since, labels.answered_us, side="right")
        return cells_by(self._lived, lived, labels.probs, labels.truth, labels.likely)

    def _begin_test(self) -> None:
        self.wish = None
        self._ahead: Floats | None = None
        self._bet, self._sense, self._worse = MeanBet(LEAST_GAIN), Sense(), MeanBet()
        self._gained, self._lost, self._tested = 0.0, 0.0, 0

    def _see_some(self, labels: Labelled, at_once: bool) -> int:
        """How many of them were taken: all, or those up to the first wish where that goes live at once."""
        fresh = labels.answered_us >= self._since_us  # others were answered under other weights
        fresh &= (labels.present & (self.live > 0)).any(axis=1)
        lost = self._lost_to_pinned(labels)
        latest = self._latest.copy()
        behind = latest.add(labels.answered_us, lost)
        gains, evidence, worse = self._test(labels, fresh)
        calm = behind < BUDGET / 2
        ahead = fresh & calm & (evidence >= -math.log(ALPHA / ((self._published + 1) * (self._published + 2))))
        ahead &= not self._refused
        before = deepcopy(self._suspicions) if at_once else self._suspicions
        renamed = calm & self._suspect(labels)
        back = (behind >= BUDGET) | worse
        back &= self._own
        wished = back | ahead | renamed
        stopped = at_once and bool(wished.any())
        taken = int(np.argmax(wished)) + 1 if stopped else len(labels)
        if stopped:
            self._suspicions = before
            self._suspect(labels.part(slice(0, taken)))
        some = fresh[:taken]
        self._gained += float(gains[:taken].sum())
        self._lost += float(lost[:taken][some].sum())
        self._tested += int(some.sum())
        if taken == len(labels):
            self._latest = latest
        else:
            self._latest.add(labels.answered_us[:taken], lost[:taken])
        self._labels += taken
        seen = labels.part(slice(taken))
        self._exposure.add(seen.answered_us, seen.overtaken, self._cells(seen), seen.present)
        learned = labels.after[taken - 1]
        if some.any():
            self._ahead = self._bounded(learned) if ahead[:taken][some][-1] else None
            self._refused = bool(ahead[:taken][some][-1]) and self._ahead is None
        self._wish_for(bool(back[:taken].any()), bool(renamed[taken - 1]))
        if self._labels % _CHUNK == 0:
            self._share, self._refused = self._exposure.share(learned)[0], False
        return taken

    def _suspect(self, labels: Labelled) -> NDArray[np.bool_]:
        """(N,) after which labels classes are to be called otherwise; weights may have changed meanwhile."""
        live = self.live_at(labels.answered_us)
        fresh = (labels.answered_us >= self._called_since_us) & (labels.present & (live > 0)).any(axis=1)
        rows = Answered(labels.probs, labels.present, labels.truth, labels.likely, fresh, live)
        return self._suspicions.look(labels.read, rows, self.relabels)

    def _wish_for(self, back: bool, renamed: bool) -> None:
        """Weights that are worse are so until they are taken back; better ones have to be so still."""
        tested = max(self._tested, 1)
        if back or (self.wish is not None and self.wish.back):
            self.wish = Wish(self._pinned, True, -self._lost / tested, self._tested, self._pinned_relabels)
            return
        proven = self._suspicions.proven() if renamed else []
        if self._ahead is None and not proven:
            self.wish = None
            return
        relabels = self.relabels
        for old, column in (item for one in proven for item in one.columns.items()):
            relabels = relabels.having(old, column)
        gain = sum(one.gain for one in proven)
        decided_by = max((one.labels for one in proven), default=0)
        if self._ahead is not None:
            gain, decided_by = gain + self._gained / tested, max(decided_by, self._tested)
        weights = self.live if self._ahead is None else self._ahead
        self.wish = Wish(weights, False, gain, decided_by, relabels)

    def _bounded(self, learned: Floats) -> Floats | None:
        """(M,) as much of them as may go live; None where that is no better than what is live."""
        share, since = self._exposure.share(learned)
        weights = self._blend(learned, min(share, self._share))
        better = len(since) and self._exposure.gain(weights, self.live, since) >= LEAST_GAIN
        return weights if better else None

    def _cells(self, labels: Labelled) -> Floats:
        """(N, M) what members gave to what was true, by what classes are called now."""
        return _clipped(self.relabels.cells(labels.probs, labels.truth, labels.likely))

    def _blend(self, weights: Floats, share: float) -> Floats:
        """(M,) or (N, M) weights as they may go live, with a share of what was learned."""
        blend = (1 - 2 * KEPT) * weights + KEPT * (self.live + self._pinned)
        return np.asarray(share * blend + (1 - share) * self._pinned, np.float64)

    def _test(self, labels: Labelled, fresh: NDArray[np.bool_]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """(N,) gains of the learned weights over the live ones, log evidence after each, the lesser of the two, and
        where the pinned ones are shown to be better than the live ones; of those that are not fresh nothing.
        """
        gains, evidence, worse = np.zeros(len(fresh)), np.full(len(fresh), -np.inf), np.zeros(len(fresh), np.bool_)
        rows = labels.part(np.flatnonzero(fresh))
        cells = self._cells(rows)
        learned = self._blend(rows.used, self._share)
        gains[fresh], lowest = _gains(learned, self.live, cells, rows.present)
        known = pooled(learned, cells, rows.present)
        evidence[fresh] = np.minimum(self._bet.add(gains[fresh], lowest), self._sense.add(known, rows.truth))
        if self._own:
            worse[fresh] = self._worse.add(*self._instead(rows, cells)) >= -math.log(ALPHA)
        return gains, evidence, worse

    def _instead(self, rows: Labelled, cells: Floats) -> tuple[Floats, Floats]:
        """(N,) nats of the pinned weights, with a part of what is live, over that, and the least that each could be."""
        if self.relabels == self._pinned_relabels:
            return _gains(self._blend(self._pinned, 1.0), self.live, cells, rows.present)
        pinned = _clipped(self._pinned_relabels.cells(rows.probs, rows.truth, rows.likely))
        there = (rows.present & (self._pinned > 0)).any(axis=1)
        gains = np.zeros(len(rows))
        given = rows.present[there]
        gains[there] = np.log(pooled(self._pinned, pinned[there], given) / pooled(self.live, cells[there], given))
        return np.logaddexp(gains, 0.0) - math.log(2), np.full(len(rows), -math.log(2))

    def _lost_to_pinned(self, labels: Labelled) -> Floats:
        """(N,) by how many nats weights that were live lost more than the pinned ones."""
        live = self.live_at(labels.answered_us)
        there = (labels.present & (self._pinned > 0)).any(axis=1) & (labels.present & (live > 0)).any(axis=1)
        lost = np.zeros(len(labels))
        rows = labels.part(there)
        pinned = _clipped(self._pinned_relabels.cells(rows.probs, rows.truth, rows.likely))
        given = _clipped(self.live_cells(rows))
        lost[there] = np.log(pooled(self._pinned, pinned, rows.present) / pooled(live[there], given, rows.present))
        return lost


def _clipped(cells: Floats) -> Floats:
    return np.clip(cells, LEAST, 1.0)


def _gains(weights: Floats, live: Floats, cells: Floats, present: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(N,) nats of (M,) or (N, M) weights over the live ones, and the least that each could have been."""
    gains = np.log(pooled(weights, cells, present) / pooled(live, cells, present))
    there = present & (live > 0)
    ratios = np.where(there, weights / np.where(live > 0, live, 1.0), np.inf).min(axis=1)
    shares = (present @ live) / (weights * present).sum(axis=1)
    return gains, np.minimum(np.log(ratios * shares), 0.0)


class Sense:
    """Evidence that labels have to do with answers, begun anew now and then."""

    def __init__(self) -> None:
        self._sense = LabelSense()

    def add(self, probs: Floats, truth: NDArray[np.int64]) -> Floats:
        """(N,) log of the likelihood ratio to the frequencies of all labels so far, after each."""
        found = np.empty(len(probs))
        for at, (known, label) in enumerate(zip(np.log(probs).tolist(), truth.tolist(), strict=True)):
            if self._sense.count >= SENSE:
                self._sense = LabelSense()
            found[at] = self._sense.add(label, known)
        return found
