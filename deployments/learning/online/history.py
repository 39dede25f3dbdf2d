"""A record lived through again by weights that learn: each label when it came, each answer by the weights so far."""

# M members, R rows, N of them with labels, C classes

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.display import Displayed, Table
from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.labels import Label, true_arrays
from quorate.deployments.learning.online.adahedge import AdaHedge
from quorate.deployments.learning.online.mixture import LEAST, SPREAD, OnlineMixture, pooled
from quorate.deployments.learning.online.publishing import Change, Labelled, Publisher
from quorate.deployments.learning.reading import Labels, Record, RecordedRows
from quorate.deployments.learning.replaying import check_replayable
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.errors import QuorateError

Floats = NDArray[np.float64]
_UNDER_LOG_LOSS = ("classification", "binary")
_BY_ROW = ("multilabel", "regression")
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


@dataclass(repr=False)
class History(Displayed):
    """What came of learning one output's weights.

    Attributes:
        members: M names.
        loss_name: of what ``loss`` and rivals lose.
        labels: how many were learned from.
        loss: of the weights that were known when each row was answered, over all labels.
        stale: how much of it is because labels came late, and not before the next row was answered.
        rivals: who they are compared with.
        times_us: (N,) when each label came, ``weights`` (N + 1, M) before the first, and after each.
        pinned: (M,) what was live at first; None where the fusion's rule is no weighted mean.
        changes: what would have gone live, and when.
    """

    output: str
    members: tuple[str, ...]
    loss_name: str
    labels: int
    loss: float
    stale: float
    rivals: list[Rival]
    times_us: NDArray[np.int64]
    weights: Floats
    pinned: Floats | None = None
    changes: list[Change] = field(default_factory=list)

    def learned_at(self, times_us: NDArray[np.int64]) -> Floats:
        """(R, M) the weights that were known when rows were answered."""
        found: Floats = self.weights[np.searchsorted(self.times_us, times_us, side="right")]
        return found

    def live_at(self, times_us: NDArray[np.int64]) -> Floats | None:
        """(R, M) the weights that would have been live then; None where none can be."""
        if self.pinned is None:
            return None
        lived = np.stack([self.pinned, *(change.weights for change in self.changes)])
        since = np.array([change.time_us for change in self.changes], np.int64)
        found: Floats = lived[np.searchsorted(since, times_us, side="right")]
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it; weights at most a thousand times."""
        return {
            "output": self.output, "members": list(self.members), "loss": self.loss_name, "labels": self.labels,
            "total": self.loss, "stale": self.stale,
            "rivals": [
                {"name": one.name, "total": one.loss, "regret": self.loss - one.loss, "bound": one.bound}
                for one in self.rivals
            ],
            "weights": [
                {"labels": at, "time_us": int(self.times_us[max(at - 1, 0)]), "weights": self.weights[at].tolist()}
                for at in _places(self.labels, 1000)
            ],
            "changes": [
                {
                    "labels": one.labels, "time_us": one.time_us, "taken_back": one.taken_back, "gain": one.gain,
                    "decided_by": one.decided_by, "weights": one.weights.tolist(),
                }
                for one in self.changes
            ],
        }  # fmt: skip

    def tables(self) -> Sequence[Table]:
        """Regret, weights through time, and what would have gone live."""
        per_row = f"{self.loss / self.labels:.4f} {self.loss_name} a row"
        late = f"{self.stale / self.labels:.4f} of it because labels came late"
        cells = [
            [one.name, f"{one.loss / self.labels:.4f}", f"{self.loss - one.loss:+.1f}", f"{one.bound:.1f}"]
            for one in self.rivals
        ]
        title = f"{self.output}: online weights from {self.labels} labels, {per_row}, {late}"
        regret = Table(["against", f"{self.loss_name} a row", "regret in all", "at most"], cells, title)
        places = _places(self.labels, _SHOWN)
        times = [_when(self.times_us[max(at - 1, 0)]) for at in places]
        rows = [
            [str(at), when, *(f"{w:.3f}" for w in self.weights[at])] for at, when in zip(places, times, strict=True)
        ]
        through = Table(["labels", "time", *self.members], rows, "weights through time", self._told())
        return [regret, through]

    def _told(self) -> list[str]:
        if self.pinned is None:
            return ["the rule is no weighted mean: its weights cannot go live"] if self.loss_name == "nats" else []
        told = []
        for one in self.changes:
            what = "the pinned weights back" if one.taken_back else "learned weights live"
            gain = f"{one.gain:+.4f} nats a row over {one.decided_by} labels"
            told.append(f"{_when(one.time_us)}, label {one.labels}: {what}, {gain}")
        return told or ["nothing would have gone live: no weights were shown to be better than the live ones"]


@dataclass
class _Stream:
    """Labelled rows of one output, batch by batch; members in the order in which they were met."""

    task: str
    classes: int
    members: dict[str, int] = field(default_factory=dict)
    answered: list[NDArray[np.int64]] = field(default_factory=list)
    came: list[NDArray[np.int64]] = field(default_factory=list)
    truth: list[NDArray[np.int64]] = field(default_factory=list)
    cells: list[tuple[NDArray[np.intp], Floats, NDArray[np.bool_]]] = field(default_factory=list)
    first: tuple[int, Revision] | None = None

    def joined(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Floats, NDArray[np.bool_]]:
        """Times, truth, and (N, M) cells with who answered, in the order in which labels came."""
        answered, came, truth = (np.concatenate(parts) for parts in (self.answered, self.came, self.truth))
        cells = np.ones((len(truth), len(self.members)))
        present = np.zeros(cells.shape, np.bool_)
        start = 0
        for places, values, there in self.cells:
            rows = slice(start, start + len(values))
            cells[rows, places], present[rows, places] = values, there
            start += len(values)
        order = np.flatnonzero(present.any(axis=1))
        order = order[np.argsort(came[order], kind="stable")]
        return answered[order], came[order], truth[order], cells[order], present[order]


def members_read(revision: Revision, rows: RecordedRows) -> tuple[Floats, NDArray[np.bool_]]:
    """(M, R, ...) what the members that a revision asks gave, calibrated as its rule reads it, and (M, R) who did.

    Raises:
        RequestError: it reads what the record does not hold.
    """
    check_replayable(revision, rows)
    places = [rows.about.members.index(name) for name in revision.asked]
    outputs = np.ascontiguousarray(rows.outputs[places])
    values = revision.graph.output.read(outputs).numpy().astype(np.float64)
    there = rows.states[places] == int(RowState.OK)
    return values, there & np.isfinite(values).reshape(*there.shape, -1).all(axis=2)


def learn_from_record(
    record: Record, labels: Labels, revision_of: Callable[[RecordedRows], Revision]
) -> dict[str, History]:
    """Learn each output's weights from a record.

    Args:
        revision_of: whose members are read, and whose weights are the prior: those of the first rows.

    Returns:
        By output; none of tokens, rankings and quantiles, or where no row has a label.
    """
    streams: dict[str, _Stream] = {}
    for rows in record.rows():
        found = labels.of(rows)
        if any(label is not None for label in found) and learns(rows):
            try:
                _gather(streams, rows, found, labels.came_us(rows), revision_of(rows))
            except QuorateError:
                continue  # who replays says so
    return {output: _live_through(output, stream) for output, stream in streams.items()}


def learns(rows: RecordedRows) -> bool:
    """Whether weights of what members gave can be learned."""
    about = rows.about
    return about.layers == about.members and not about.of_tokens and about.task in (*_UNDER_LOG_LOSS, *_BY_ROW)


def _gather(
    streams: dict[str, _Stream], rows: RecordedRows, found: Sequence[Label | None], came: NDArray[np.int64],
    revision: Revision,
) -> None:  # fmt: skip
    values, there = members_read(revision, rows)
    about = rows.about
    stream = streams.setdefault(about.output, _Stream(about.task, len(about.classes)))
    places = np.array([stream.members.setdefault(name, len(stream.members)) for name in revision.asked], np.intp)
    known = np.array([at for at, label in enumerate(found) if label is not None], np.intp)
    truth = true_arrays(about.classes, about.task, [label for label in found if label is not None])
    stream.cells.append((places, _cells(values[:, known], truth, about.task), there[:, known].T))
    stream.truth.append(truth if about.task in _UNDER_LOG_LOSS else np.zeros(len(known), np.int64))
    stream.answered.append(rows.times_us[known])
    stream.came.append(np.maximum(came[known], rows.times_us[known]))  # clocks of two machines
    if stream.first is None or rows.times_us[0] < stream.first[0]:
        stream.first = int(rows.times_us[0]), revision


def _cells(values: Floats, truth: NDArray[Any], task: str) -> Floats:
    """(N, M) each member's probability of what is true, or its loss."""
    if task in _UNDER_LOG_LOSS:
        return np.asarray(values[:, np.arange(len(truth)), truth].T, np.float64)
    true = np.asarray(truth, np.float64).reshape(len(truth), -1)
    flat = values.reshape(*values.shape[:2], -1)
    if task == "regression":
        return np.asarray(((flat - true) ** 2).mean(axis=2).T, np.float64)
    sure = np.where(true > 0.5, flat, 1 - flat)
    return np.asarray(-np.log(np.maximum(sure, LEAST)).mean(axis=2).T, np.float64)


def _live_through(output: str, stream: _Stream) -> History:
    answered, came, truth, cells, present = stream.joined()
    pinned = _weights(stream)
    members = tuple(stream.members)
    known = np.minimum(np.searchsorted(came, answered, side="right"), np.arange(len(came)))
    if stream.task not in _UNDER_LOG_LOSS:
        return _by_rows(output, members, pinned, came, known, cells, present, stream.task)
    learner = OnlineMixture(np.ones(len(members)) if pinned is None else pinned)
    learned = learner.learn(cells, present)
    weights = np.concatenate([learned.weights, learner.weights[None]])
    rows = Labelled(answered, came, np.clip(cells, LEAST, 1.0), present, truth, weights[known], weights[1:])
    loss = -float(np.log(pooled(rows.used, rows.probs, present)).sum())
    regret = learner.regret()
    stale = loss - regret.loss
    rivals = [
        Rival(f"best member, {members[regret.member]}", regret.member_loss, regret.member_bound + stale),
        Rival("best fixed mixture", regret.mixture_loss, regret.mixture_bound + stale),
        Rival("equal weights" if pinned is None else "first weights", regret.prior_loss, regret.prior_bound + stale),
    ]
    found = History(output, members, "nats", len(came), loss, stale, rivals, came, weights, pinned)
    if pinned is not None:
        publisher = Publisher(pinned)
        publisher.see(rows)
        found.changes = publisher.changes
    return found


def _by_rows(
    output: str, members: tuple[str, ...], pinned: Floats | None, came: NDArray[np.int64], known: NDArray[np.intp],
    losses: Floats, present: NDArray[np.bool_], task: str,
) -> History:  # fmt: skip
    prior = np.full(len(members), 1 / len(members))
    learner = AdaHedge(prior if pinned is None else (1 - SPREAD) * pinned / pinned.sum() + SPREAD * prior)
    held = learner.learn(losses, present)
    weights = np.concatenate([held, learner.weights[None]])
    used = np.maximum(weights[known], 1e-12)  # all that had weight may be missing
    loss = float(pooled(used, losses, present).sum())
    stale = loss - learner.loss
    best = int(learner.member_losses.argmin())
    rival = Rival(
        f"best member, {members[best]}", float(learner.member_losses[best]),
        float(learner.regret_bounds()[best]) + stale,
    )  # fmt: skip
    name = "squared error" if task == "regression" else "nats of a label"
    return History(output, members, name, len(came), loss, stale, [rival], came, weights)


def _weights(stream: _Stream) -> Floats | None:
    """(M,) of the first revision's rule; None where it is no weighted mean."""
    assert stream.first is not None
    revision = stream.first[1]
    rule = revision.graph.output.rule
    if not getattr(rule, "linear", False):
        return None
    shares = rule.shares.numpy()  # type: ignore[union-attr]
    found = np.zeros(len(stream.members))
    for name, share in zip(revision.asked, shares, strict=True):
        found[stream.members[name]] = share
    return found


def _places(labels: int, most: int) -> list[int]:
    found: list[int] = np.unique(np.linspace(0, labels, min(labels + 1, most)).astype(int)).tolist()
    return found


def _when(time_us: Any) -> str:
    return datetime.fromtimestamp(int(time_us) / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
