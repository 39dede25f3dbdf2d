"""What came of weights that learn: each label took its turn when it came, each answer used the weights known then."""

# M members, R rows, N of them with labels, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.display import Displayed, Table
from quorate.deployments.learning.online.adahedge import AdaHedge
from quorate.deployments.learning.online.dates import date_of
from quorate.deployments.learning.online.mixture import LEAST, SPREAD, OnlineMixture, Regret, pooled
from quorate.deployments.learning.online.publishing import Change, Labelled, Publisher, lived_at
from quorate.deployments.learning.online.relabelling.likely import Likely
from quorate.deployments.learning.online.relabelling.matrix import Named, Relabels
from quorate.deployments.learning.online.relabelling.reading import Reading, cells_by
from quorate.deployments.learning.online.relabelling.report import said_of

Floats = NDArray[np.float64]
_SHOWN = 12


@dataclass(frozen=True)
class Rival:
    """What learned weights are compared with.

    Attributes:
        name: of it.
        loss: of all labels together.
        bound: what the learned weights can have lost more, at most.
    """

    name: str
    loss: float
    bound: float


@dataclass(frozen=True)
class Standing:
    """How learned weights stood after some labels.

    Attributes:
        labels: how many.
        loss: of the weights that were known when each row was answered, over these labels.
        stale: how much of it is because labels came late, and not before the next row was answered.
        rivals: who they are compared with.
    """

    labels: int
    loss: float
    stale: float
    rivals: Sequence[Rival]


@dataclass(repr=False)
class History(Displayed):
    """What came of learning one output's weights.

    Attributes:
        members: M names.
        loss_name: of what is lost.
        standings: after more and more labels, all of them at last.
        times_us: (N,) when each label came, ``weights`` (N + 1, M) before the first, and after each.
        pinned: (M,) what was live at first; None where the fusion's rule is no weighted mean.
        changes: what would have gone live, and when.
        classes: their names; none where labels are no classes.
        relabel: what they were called at first.
        reading: what they were believed to be called.
    """

    output: str
    members: tuple[str, ...]
    loss_name: str
    standings: Sequence[Standing]
    times_us: NDArray[np.int64]
    weights: Floats
    pinned: Floats | None = None
    changes: Sequence[Change] = ()
    classes: tuple[str, ...] = ()
    relabel: Named = field(default_factory=dict)
    reading: Reading | None = None

    @property
    def end(self) -> Standing:
        """After all labels."""
        return self.standings[-1]

    def learned_at(self, times_us: NDArray[np.int64]) -> Floats:
        """(R, M) the weights that were known when rows were answered."""
        found: Floats = self.weights[np.searchsorted(self.times_us, times_us, side="right")]
        return found

    def live_at(self, times_us: NDArray[np.int64]) -> Floats | None:
        """(R, M) the weights that would have been live then; None where none can be."""
        return None if self.pinned is None else lived_at(self.pinned, self.changes, times_us)

    def learned_names_at(self, times_us: NDArray[np.int64]) -> list[Relabels]:
        """R: what classes were believed to be called when rows were answered."""
        if self.reading is None:
            return [Relabels()] * len(times_us)
        return self.reading.at(np.searchsorted(self.times_us, times_us, side="right"))

    def live_names_at(self, times_us: NDArray[np.int64]) -> list[Relabels]:
        """R: what they would have been called by what was live then."""
        lived = [Relabels.of_names(one, self.classes) for one in (self.relabel, *(at.relabel for at in self.changes))]
        since = np.array([change.time_us for change in self.changes], np.int64)
        return [lived[at] for at in np.searchsorted(since, times_us, side="right")]

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it; weights at most a thousand times."""
        times = [int(self.times_us[max(at.labels - 1, 0)]) for at in self.standings]
        weights = [self.weights[at.labels] for at in self.standings]
        return {
            "output": self.output, "members": list(self.members), "loss": self.loss_name,
            "standings": [standing_to_dict(*one) for one in zip(self.standings, times, weights, strict=True)],
            "weights": [
                {"labels": at, "time_us": int(self.times_us[max(at - 1, 0)]), "weights": self.weights[at].tolist()}
                for at in _places(len(self.times_us), 1000)
            ],
            "changes": [change_to_dict(one) for one in self.changes],
        }  # fmt: skip

    def tables(self) -> Sequence[Table]:
        """Regret and weights through time, and what would have gone live."""
        return tables_of(self.to_dict(), self._told())

    def _told(self) -> list[str]:
        if self.pinned is None:
            return ["the rule is no weighted mean: its weights cannot go live"] if self.loss_name == "nats" else []
        told = [said_of_change(change_to_dict(one)) for one in self.changes]
        return told or ["nothing would have gone live: no weights were shown to be better than the live ones"]


def standing_to_dict(at: Standing, time_us: int, weights: Floats) -> dict[str, Any]:
    """As JSON would hold it.

    Args:
        time_us: when the last of its labels came.
        weights: (M,) then.
    """
    rivals = [
        {"name": one.name, "total": one.loss, "regret": at.loss - one.loss, "bound": one.bound} for one in at.rivals
    ]
    numbers = {"labels": at.labels, "time_us": time_us, "total": at.loss, "stale": at.stale}
    return numbers | {"rivals": rivals, "weights": weights.tolist()}


def change_to_dict(change: Change) -> dict[str, Any]:
    """As JSON would hold it."""
    return asdict(change) | {"weights": change.weights.tolist()}


def said_of_change(change: Mapping[str, Any]) -> str:
    """A line of what ``change_to_dict`` gave."""
    what = "the pinned weights back" if change["taken_back"] else "learned weights live"
    gain = f"{change['gain']:+.4f} nats a row over {change['decided_by']} labels"
    called = said_of(change.get("relabel", {}))
    return f"{date_of(change['time_us'])}, label {change['labels']}: {what}, {gain}{called and f'; {called}'}"


def tables_of(told: Mapping[str, Any], lines: Sequence[str]) -> list[Table]:
    """Regret and weights through time, of what ``History.to_dict`` gave, and lines below."""
    standings, members = told["standings"], told["members"]
    end, unit = standings[-1], f"{told['loss']} a row"
    cells = [
        [one["name"], f"{one['total'] / end['labels']:.4f}", f"{one['regret']:+.1f}", f"{one['bound']:.1f}"]
        for one in end["rivals"]
    ]
    late = f"late labels cost {end['stale'] / end['labels']:+.4f} of it"
    loss = f"{end['total'] / end['labels']:.4f} {unit}"
    title = f"{told['output']}: online weights from {end['labels']} labels, {loss}; {late}"
    regrets = [
        [*_when(at), *(f"{one['regret']:+.1f} of {one['bound']:.1f}" for one in at["rivals"])] for at in standings
    ]
    first = [told["weights"][0]] if told["weights"] else []
    weights = [[*_when(at), *(f"{weight:.3f}" for weight in at["weights"])] for at in (*first, *standings)]
    names = [one["name"].partition(",")[0] for one in end["rivals"]]
    return [
        Table(["against", unit, "regret in all", "at most"], cells, title),
        Table(["labels", "time", *names], regrets, "regret through time"),
        Table(["labels", "time", *members], weights, "weights through time", lines),
    ]


def _when(at: Mapping[str, Any]) -> tuple[str, str]:
    return str(at["labels"]), date_of(at["time_us"])


@dataclass(frozen=True)
class LabelTimes:
    """Labels in the order in which they came.

    Attributes:
        answered_us: (N,) when each row was answered, and ``came_us`` (N,) when its label came.
    """

    answered_us: NDArray[np.int64]
    came_us: NDArray[np.int64]

    @property
    def known(self) -> NDArray[np.intp]:
        """(N,) how many labels had come when each row was answered."""
        before = np.searchsorted(self.came_us, self.answered_us, side="right")
        return np.minimum(before, np.arange(len(before)))

    @property
    def overtaken(self) -> NDArray[np.intp]:
        """(N,) how many labels came after each row was answered and before its own."""
        return np.arange(len(self.came_us)) - self.known


def live_through(
    output: str, members: Sequence[str], pinned: Floats | None, labels: LabelTimes, probs: Floats,
    present: NDArray[np.bool_], truth: NDArray[np.int64], likely: Likely | None = None, classes: Sequence[str] = (),
    relabel: Named | None = None,
) -> History:  # fmt: skip
    """Learn weights under log-loss, and what classes are called, and publish them.

    Args:
        pinned: (M,) what is live at first; None where weights cannot be.
        probs: (N, M) what each member gave to what was true.
        present: (N, M) which of them answered, one at least in each row.
        truth: (N,) classes, by number.
        likely: what members gave to other classes; labels are read as they are when None.
        classes: their names.
        relabel: what they are called at first.
    """
    first = Relabels.of_names(relabel or {}, classes)
    reading, likely = Reading(len(classes), first), Likely.nothing(*probs.shape) if likely is None else likely
    read = reading.read(probs, truth, likely, labels.known)
    learner = OnlineMixture(np.ones(len(members)) if pinned is None else pinned)
    places = _places(len(truth), _SHOWN)
    parts, regrets = [], []
    for start, stop in pairwise(places):
        parts.append(learner.learn(read.cells[start:stop], present[start:stop], labels.answered_us[start:stop]).weights)
        regrets.append(learner.regret())
    weights = np.concatenate([*parts, learner.weights[None]])
    used, clipped = weights[labels.known], np.clip(probs, LEAST, 1.0)
    answered = np.clip(cells_by(read.versions, read.used, probs, truth, likely), LEAST, 1.0)
    sums = -np.log(pooled(used, answered, present)).cumsum()
    standings = [standing_of(members, float(sums[regret.labels - 1]), regret, pinned is not None) for regret in regrets]
    found = History(output, tuple(members), "nats", standings, labels.came_us, weights, pinned)
    found.classes, found.relabel, found.reading = tuple(classes), relabel or {}, reading
    if pinned is not None:
        publisher = Publisher(pinned, relabels=first, classes=classes)
        learned = (used, weights[1:], labels.overtaken)
        publisher.see(Labelled(labels.answered_us, labels.came_us, clipped, present, truth, *learned, likely, read))
        found.changes = publisher.changes
    return found


def standing_of(members: Sequence[str], loss: float, regret: Regret, pinned: bool) -> Standing:
    """How weights that were used stand, by what learning has cost.

    Args:
        loss: of the weights that were known when each row was answered.
        pinned: whether the first weights are those of a revision.
    """
    stale = loss - regret.loss
    rivals = [
        Rival(f"best member, {members[regret.member]}", regret.member_loss, regret.member_bound + stale),
        Rival("best fixed mixture", regret.mixture_loss, regret.mixture_bound + stale),
        Rival("first weights" if pinned else "equal weights", regret.prior_loss, regret.prior_bound + stale),
    ]
    return Standing(regret.labels, loss, stale, rivals)


def hedge_through(
    output: str, members: Sequence[str], pinned: Floats | None, labels: LabelTimes, losses: Floats,
    present: NDArray[np.bool_], loss_name: str,
) -> History:  # fmt: skip
    """The same under any other loss: (N, M) of each member. Nothing goes live."""
    prior = np.full(len(members), 1 / len(members))
    learner = AdaHedge(prior if pinned is None else (1 - SPREAD) * pinned / pinned.sum() + SPREAD * prior)
    parts, states = [], []
    for start, stop in pairwise(_places(len(losses), _SHOWN)):
        parts.append(learner.learn(losses[start:stop], present[start:stop]))
        states.append((stop, learner.loss, best_member(members, learner)))
    weights = np.concatenate([*parts, learner.weights[None]])
    used = np.maximum(weights[labels.known], 1e-12)  # all that had weight may be missing
    sums = pooled(used, losses, present).cumsum()
    standings = [hedged_standing(at, float(sums[at - 1]), loss, rival) for at, loss, rival in states]
    return History(output, tuple(members), loss_name, standings, labels.came_us, weights)


def best_member(members: Sequence[str], learner: AdaHedge) -> Rival:
    """The member that has lost least so far."""
    best = int(learner.member_losses.argmin())
    bound = float(learner.regret_bounds()[best])
    return Rival(f"best member, {members[best]}", float(learner.member_losses[best]), bound)


def hedged_standing(labels: int, loss: float, held: float, rival: Rival) -> Standing:
    """How weights that were used stand, by what those cost that were ``held`` when labels came."""
    stale = loss - held
    return Standing(labels, loss, stale, [replace(rival, bound=rival.bound + stale)])


def _places(labels: int, most: int) -> list[int]:
    found: list[int] = np.unique(np.linspace(0, labels, min(labels + 1, most)).astype(int)).tolist()
    return found
