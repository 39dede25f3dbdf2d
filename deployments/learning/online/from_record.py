"""A record as labels came to it: columns of what members gave to what was true, and what weights learn of them."""

# M members, R rows, N of them with labels, C classes

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.labels import Label, true_arrays
from quorate.deployments.learning.online.history import History, LabelTimes, hedge_through, live_through
from quorate.deployments.learning.online.mixture import LEAST
from quorate.deployments.learning.online.relabelling.likely import Likely
from quorate.deployments.learning.reading import Labels, Record, RecordedRows
from quorate.deployments.learning.replaying import check_replayable
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.errors import QuorateError
from quorate.fusion.rules.weighting import WeightedRule

Floats = NDArray[np.float64]
UNDER_LOG_LOSS = ("classification", "binary")
# Of other tasks what each row loses.
LOSSES = {"multilabel": "nats a label", "regression": "squared error"}


@dataclass
class LabelledStream:
    """Labelled rows of one output, batch by batch; members in the order in which they were met."""

    task: str
    members: dict[str, int] = field(default_factory=dict)
    answered: list[NDArray[np.int64]] = field(default_factory=list)
    came: list[NDArray[np.int64]] = field(default_factory=list)
    truth: list[NDArray[np.int64]] = field(default_factory=list)
    cells: list[tuple[NDArray[np.intp], Floats, NDArray[np.bool_]]] = field(default_factory=list)
    likely: list[tuple[NDArray[np.intp], Likely]] = field(default_factory=list)
    first: tuple[int, Revision] | None = None

    def add(
        self, rows: RecordedRows, found: Sequence[Label | None], came_us: NDArray[np.int64], revision: Revision
    ) -> None:
        """Take rows, each with its label or none, and (R,) when these came.

        Raises:
            RequestError: the revision reads what the record does not hold.
        """
        values, there = members_read(revision, rows)
        about = rows.about
        places = np.array([self.members.setdefault(name, len(self.members)) for name in revision.asked], np.intp)
        known = np.array([at for at, label in enumerate(found) if label is not None], np.intp)
        truth = true_arrays(about.classes, about.task, [label for label in found if label is not None])
        present = there[:, known].T
        self.cells.append((places, _cells(values[:, known], truth, about.task), present))
        if about.task in UNDER_LOG_LOSS:
            self.likely.append((places, Likely.of(values[:, known], present, truth)))
        else:
            self.likely.append((places, Likely.nothing(*present.shape)))
        self.truth.append(truth if about.task in UNDER_LOG_LOSS else np.zeros(len(known), np.int64))
        self.answered.append(rows.times_us[known])
        self.came.append(np.maximum(came_us[known], rows.times_us[known] + 1))  # clocks of two machines
        if self.first is None or rows.times_us[0] < self.first[0]:
            self.first = int(rows.times_us[0]), revision

    def joined(self) -> tuple[LabelTimes, NDArray[np.int64], Floats, NDArray[np.bool_], Likely]:
        """Times, truth, (N, M) cells with who answered, and likely classes, in the order in which labels came."""
        answered, came, truth = (np.concatenate(parts) for parts in (self.answered, self.came, self.truth))
        cells = np.ones((len(truth), len(self.members)))
        present = np.zeros(cells.shape, np.bool_)
        start = 0
        for places, values, there in self.cells:
            rows = slice(start, start + len(values))
            cells[rows, places], present[rows, places] = np.where(there, values, 1.0), there  # no NaN
            start += len(values)
        order = np.flatnonzero(present.any(axis=1))
        order = order[np.argsort(came[order], kind="stable")]
        likely = Likely.joined(self.likely, len(self.members))[order]
        return LabelTimes(answered[order], came[order]), truth[order], cells[order], present[order], likely


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
    streams: dict[str, LabelledStream] = {}
    for rows in record.rows():
        found = labels.of(rows)
        if any(label is not None for label in found) and learns(rows):
            try:
                stream = streams.get(rows.about.output) or LabelledStream(rows.about.task)
                stream.add(rows, found, labels.came_us(rows), revision_of(rows))
                streams[rows.about.output] = stream
            except QuorateError:
                continue  # who replays says so
    return {output: _history(output, stream) for output, stream in streams.items()}


def learns(rows: RecordedRows) -> bool:
    """Whether weights of what members gave can be learned."""
    about = rows.about
    return about.layers == about.members and not about.of_tokens and about.task in (*UNDER_LOG_LOSS, *LOSSES)


def _cells(values: Floats, truth: NDArray[Any], task: str) -> Floats:
    """(N, M) each member's probability of what is true, or its loss."""
    if task in UNDER_LOG_LOSS:
        return np.asarray(values[:, np.arange(len(truth)), truth].T, np.float64)
    true = np.asarray(truth, np.float64).reshape(len(truth), -1)
    flat = values.reshape(*values.shape[:2], -1)
    if task == "regression":
        return np.asarray(((flat - true) ** 2).mean(axis=2).T, np.float64)
    sure = np.where(true > 0.5, flat, 1 - flat)
    return np.asarray(-np.log(np.maximum(sure, LEAST)).mean(axis=2).T, np.float64)


def _history(output: str, stream: LabelledStream) -> History:
    labels, truth, cells, present, likely = stream.joined()
    members, pinned = tuple(stream.members), _weights(stream)
    if stream.task in UNDER_LOG_LOSS:
        assert stream.first is not None
        spec = stream.first[1].graph.spec
        classes, relabel = spec.classes or (), spec.output_fusion.relabel
        return live_through(output, members, pinned, labels, cells, present, truth, likely, classes, relabel)
    return hedge_through(output, members, pinned, labels, cells, present, LOSSES[stream.task])


def _weights(stream: LabelledStream) -> Floats | None:
    """(M,) of the first revision's rule; None where it is no weighted mean."""
    assert stream.first is not None
    known = weights_of(stream.first[1])
    return None if known is None else np.array([known.get(name, 0.0) for name in stream.members])


def weights_of(revision: Revision) -> dict[str, float] | None:
    """What a rule gives each member that it asks; None where it is no weighted mean."""
    rule = revision.graph.output.rule
    if not isinstance(rule, WeightedRule) or not rule.linear:
        return None
    return dict(zip(revision.asked, rule.shares.tolist(), strict=True))
