"""One output's weights as they learn from labels that go on coming, beside those that are live."""

# M members, N labels, K of them remembered

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.online.adahedge import AdaHedge
from quorate.deployments.learning.online.history import (
    LabelTimes,
    Rival,
    Standing,
    best_member,
    change_to_dict,
    hedged_standing,
    standing_of,
    standing_to_dict,
)
from quorate.deployments.learning.online.mixture import LEAST, OnlineMixture, pooled
from quorate.deployments.learning.online.publishing import Change, Labelled, Publisher
from quorate.deployments.learning.online.relabelling.likely import Likely
from quorate.deployments.learning.online.relabelling.matrix import Relabels
from quorate.deployments.learning.online.relabelling.reading import Reading, cells_by
from quorate.deployments.learning.online.relabelling.report import called_otherwise
from quorate.deployments.learning.online.weights_through_time import WeightsThroughTime

Floats = NDArray[np.float64]
# Weights that were known at the latest so many labels; rows that were answered before use the oldest of these.
REMEMBERED = 20_000
# Standings that are kept; then every other one goes.
STANDINGS = 24
# What stands is told again after a hundredth of the labels so far: the best mixture in hindsight reads them all.
NOTED = 100


@dataclass(frozen=True)
class Start:
    """What an output's weights start from.

    Attributes:
        members: M names, in the order of the rule.
        pinned: (M,) the weights of the revision that somebody deployed; None where none can go live.
        since_us: when that was; labels of answers before it decide nothing.
        changes: of what is live, since then.
        at_once: nobody makes weights live: it is told when they would be.
        classes: their names, of which labels are numbers.
        relabel: what these are called in the revision that somebody deployed.
    """

    output: str
    members: tuple[str, ...]
    pinned: Floats | None
    since_us: int = -1
    changes: tuple[Change, ...] = ()
    at_once: bool = True
    classes: tuple[str, ...] = ()
    relabel: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Learner:
    """Under log-loss. What comes late comes in the order in which it is taken."""

    loss_name = "nats"

    def __init__(self, start: Start):
        count = len(start.members)
        self.start, self.labels = start, 0
        first, relabels = self._begin(count), Relabels.of_names(start.relabel, start.classes)
        self._reading = Reading(len(start.classes), relabels)
        self._used, self._through = _Remembered(first), WeightsThroughTime(first)
        self._loss = 0.0
        self._since = np.zeros(3)  # labels of answers since what is pinned is, what was learned lost, and what was live
        self._standings: list[tuple[Standing, int, Floats]] = []
        self._every = self._kept = self._noted = 0
        self.publisher: Publisher | None = None
        if start.pinned is not None:
            self.publisher = Publisher(start.pinned, start.since_us, relabels, start.classes)
            self.publisher.is_live_again(start.changes)

    def take(
        self, labels: LabelTimes, truth: NDArray[np.int64], cells: Floats, present: NDArray[np.bool_],
        likely: Likely | None = None,
    ) -> None:  # fmt: skip
        """Take N labels.

        Args:
            truth: (N,) classes, by number.
            cells: (N, M) what each member gave to what was true, or its loss.
            present: (N, M) which of them answered, one at least in each row.
            likely: what they gave to other classes; labels are read as they are when None.
        """
        if not len(truth):
            return
        likely = Likely.nothing(*cells.shape) if likely is None else likely
        known = self._used.known(labels)
        read = self._reading.read(cells, truth, likely, known)
        held, weights = self._learn(read.cells, present, labels.answered_us)
        used, after = self._used.add(known, held, weights)
        overtaken = self.labels + np.arange(len(truth)) - known
        self.labels += len(truth)
        self._through.add(labels.came_us, after)
        answered = cells_by(read.versions, read.used, cells, truth, likely)
        self._loss += self._cost(used, answered, present)
        if self.publisher is not None:
            clipped = np.clip(cells, LEAST, 1.0)
            learned = (used, after, overtaken)
            given = Labelled(labels.answered_us, labels.came_us, clipped, present, truth, *learned, likely, read)
            since = labels.answered_us >= self.start.since_us
            there, live = present[since], self.publisher.live_at(labels.answered_us[since])
            lived = self.publisher.live_cells(given.part(since))
            self._since += (
                since.sum(),
                self._cost(used[since], answered[since], there),
                self._cost(live, lived, there),
            )
            (self.publisher.see if self.start.at_once else self.publisher.look)(given)
        if self.labels > self._noted + self._noted // NOTED:
            self._note(int(labels.came_us[-1]), weights)

    def report(self) -> dict[str, Any]:
        """As ``History.to_dict`` gives it; of labels since what is pinned is, what learned and live weights lost."""
        changes = [] if self.publisher is None else [change_to_dict(one) for one in self.publisher.changes]
        standings = [standing_to_dict(*one) for one in self._standings]
        names = ("labels", "learned", "live")
        live = None if self.publisher is None else dict(zip(names, self._since.tolist(), strict=True))
        return {
            "output": self.start.output, "members": list(self.start.members), "loss": self.loss_name,
            "standings": standings, "weights": self._through.points(), "changes": changes, "labels": self.labels,
            "live": live, "live_weights": None if self.publisher is None else self.publisher.live.tolist(),
            "relabelled": self._relabelled(),
        }  # fmt: skip

    def _relabelled(self) -> list[dict[str, Any]]:
        """Classes that labels call otherwise than members do."""
        if self.publisher is None:
            return []
        learned, start = self._reading.versions[-1].to_names(self.start.classes), self.start
        return called_otherwise(start.relabel, self.publisher.changes, learned)

    def _begin(self, count: int) -> Floats:
        """Make what learns; (M,) its weights."""
        given = self.start.pinned
        self._mixture = OnlineMixture(np.ones(count) if given is None else given)
        return np.asarray(self._mixture.weights, np.float64)

    def _learn(self, cells: Floats, present: NDArray[np.bool_], times: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """(N, M) weights that were held when each came, and (M,) after all.

        Args:
            times: (N,) when each row was answered.
        """
        return self._mixture.learn(cells, present, times).weights, self._mixture.weights

    def _cost(self, weights: Floats, cells: Floats, present: NDArray[np.bool_]) -> float:
        """Of all rows together; of one that nobody with weight answered nothing."""
        there = (present & (weights > 0)).any(axis=1)
        rows = np.clip(cells[there], LEAST, 1.0)
        return float(-np.log(pooled(weights[there], rows, present[there])).sum())

    def _standing(self) -> Standing:
        pinned = self.start.pinned is not None
        return standing_of(self.start.members, self._loss, self._mixture.regret(), pinned)

    def _note(self, time_us: int, weights: Floats) -> None:
        """Keep how it stands, at ever larger distances, and always how it stands now."""
        if self._standings and self._noted < self._kept + self._every:
            self._standings.pop()
        else:
            self._kept = self._noted
        self._noted = self.labels
        self._standings.append((self._standing(), time_us, weights.copy()))
        if len(self._standings) > STANDINGS:
            self._standings = self._standings[1::2]
            self._every = 2 * self.labels // STANDINGS


class LossLearner(Learner):
    """Under another loss, of each row by itself; nothing goes live."""

    def __init__(self, start: Start, loss_name: str):
        self.loss_name = loss_name
        super().__init__(Start(start.output, start.members, None))

    def _begin(self, count: int) -> Floats:
        prior = np.full(count, 1 / count)
        self._hedge = AdaHedge(prior)
        return np.asarray(self._hedge.weights, np.float64)

    def _learn(self, cells: Floats, present: NDArray[np.bool_], times: NDArray[np.int64]) -> tuple[Floats, Floats]:
        return self._hedge.learn(cells, present), self._hedge.weights

    def _cost(self, weights: Floats, cells: Floats, present: NDArray[np.bool_]) -> float:
        return float(pooled(np.maximum(weights, 1e-12), cells, present).sum())

    def _standing(self) -> Standing:
        rival: Rival = best_member(self.start.members, self._hedge)
        return hedged_standing(self.labels, self._loss, self._hedge.loss, rival)


class _Remembered:
    """Weights after each of the latest labels, and when these came."""

    def __init__(self, first: Floats):
        self._weights, self._came = first[None].copy(), np.empty(0, np.int64)
        self._before = 0  # labels that are remembered no more

    def known(self, labels: LabelTimes) -> NDArray[np.intp]:
        """(N,) how many labels had come when each row was answered; these come last of all."""
        own = self._before + len(self._came) + np.arange(len(labels.came_us))
        came = np.concatenate([self._came[-1:], labels.came_us])
        self._came = np.concatenate([self._came, np.maximum.accumulate(came)[-len(own) :]])
        return np.minimum(self._before + np.searchsorted(self._came, labels.answered_us, side="right"), own)

    def add(self, known: NDArray[np.intp], held: Floats, now: Floats) -> tuple[Floats, Floats]:
        """(N, M) what was known when each row was answered, and what is known with its label."""
        self._weights = np.concatenate([self._weights, held[1:], now[None]])
        used = self._weights[known - self._before]
        after = self._weights[-len(held) :]
        gone = max(len(self._came) - REMEMBERED, 0)
        self._came, self._weights, self._before = self._came[gone:], self._weights[gone:], self._before + gone
        return used, after
