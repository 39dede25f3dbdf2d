"""Recorded rows fused again: bit for bit by the revision that answered them, or by another.

Rows are fused many at a time. Where a rule's arithmetic depends on which rows it is given together, as that of a matrix
product may, those that come out differently are fused once more as they were then, call by call.
"""

# M members, R rows, C classes

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.revision import Revision
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.answer_columns import FEATURES
from quorate.deployments.learning.reading import RecordedRows
from quorate.deployments.wire.arrow_tensors import read_column

Array = NDArray[Any]


class Replayed:
    """Recorded rows as a revision answers them.

    Attributes:
        values: (R, ...) what it says; zeros where it says nothing.
        answered: (R,) rows for which it has a quorum.
        abstained: (R,) rows that its rule declines.
    """

    def __init__(self, values: NDArray[np.float32], answered: NDArray[np.bool_], abstained: NDArray[np.bool_] | None):
        self.values, self.answered = values, answered
        self.abstained = np.zeros(len(answered), np.bool_) if abstained is None else abstained

    def same(self, rows: RecordedRows) -> NDArray[np.bool_]:
        """(R,) whether that is what was answered, to the bit."""
        if self.values.shape != rows.fused.shape:
            return np.zeros(len(rows), np.bool_)
        bits = (a.reshape(len(rows), -1).view(np.uint32) for a in map(np.ascontiguousarray, (self.values, rows.fused)))
        left, right = bits
        same: NDArray[np.bool_] = (left == right).all(axis=1) & self.answered
        return same if rows.abstained is None else same & (self.abstained == rows.abstained)


def check_replayable(revision: Revision, rows: RecordedRows) -> None:
    """Refuse a revision that reads what the record does not hold.

    Raises:
        RequestError: it does.
    """
    output, about = revision.graph.output, rows.about
    if about.layers == (FEATURES,) or len(about.layers) != len(about.members):
        if revision.asked != about.members:
            found = "the record has features side by side, as its own members gave them"
            raise RequestError(f"{found}; replay it with a fusion of {', '.join(about.members)}")
    else:
        absent = [name for name in revision.asked if name not in about.members]
        if absent:
            fix = f"it has {', '.join(about.members)}"
            raise RequestError(f"{', '.join(absent)} is not in the record of revision {about.revision}; {fix}")
    if output.reads_inputs and not about.inputs:
        raise RequestError(
            f"fusion '{output.name}' reads the request, which is not in the record of revision {about.revision}; "
            "record with inputs: true"
        )


def replay_rows(revision: Revision, rows: RecordedRows) -> Replayed:
    """What a revision says of recorded rows.

    Args:
        revision: of the same output, over members that are in the record.

    Raises:
        RequestError: it reads what the record does not hold.
        QuorateError: its rule cannot read the rows.
    """
    check_replayable(revision, rows)
    outputs, states, inputs = _read_by(revision, rows)
    if revision.graph.output.ranks_rows:
        return _joined(_by_answer(rows), revision, outputs, states, inputs, rows)
    whole: NDArray[np.bool_] = np.asarray(~states.any(axis=0))
    if whole.all() or not whole.any():
        found = _fused(revision, outputs, states, inputs)
    else:  # a rule may go another way where nobody is missing
        found = _of_parts(revision, outputs, states, inputs, (whole, ~whole), rows)
    if revision.name != rows.about.revision or not rows.about.exact:
        return found
    other = ~found.same(rows)
    for at in _calls(rows, other):
        again = _fused(revision, *_at(outputs, states, inputs, at))
        found.values[at], found.answered[at], found.abstained[at] = again.values, again.answered, again.abstained
    return found


def _read_by(revision: Revision, rows: RecordedRows) -> tuple[Array, Array, Mapping[str, Array]]:
    """Outputs, states and inputs of the members that a revision asks, in its order."""
    about, asked = rows.about, revision.asked
    outputs, states = rows.outputs, rows.states
    if asked != about.members:
        places = [about.members.index(name) for name in asked]
        outputs, states = outputs[places], states[places]
    inputs: Mapping[str, Array] = {}
    if revision.graph.output.reads_inputs:
        wanted = revision.spec.inputs
        inputs = {
            name: read_column(name, rows.batch.column(f"input/{name}"), wanted[name].datatype, wanted[name].shape)
            for name in about.inputs
            if name in wanted
        }
    return outputs, states, inputs


def _fused(revision: Revision, outputs: Array, states: Array, inputs: Mapping[str, Array]) -> Replayed:
    fused, enough = revision.fuse_again(outputs, states, inputs)
    return Replayed(fused.values, enough, fused.abstained)


def _at(outputs: Array, states: Array, inputs: Mapping[str, Array], at: Any) -> tuple[Array, Array, dict[str, Array]]:
    some = np.ascontiguousarray(outputs[:, at]), np.ascontiguousarray(states[:, at])
    return *some, {name: array[at] for name, array in inputs.items()}


def _of_parts(
    revision: Revision, outputs: Array, states: Array, inputs: Mapping[str, Array], parts: tuple[Array, ...],
    rows: RecordedRows,
) -> Replayed:  # fmt: skip
    found: Replayed | None = None
    for part in parts:
        one = _fused(revision, *_at(outputs, states, inputs, part))
        if found is None:
            count = len(rows)
            found = Replayed(np.zeros((count, *one.values.shape[1:]), np.float32), np.zeros(count, np.bool_), None)
        found.values[part], found.answered[part], found.abstained[part] = one.values, one.answered, one.abstained
    assert found is not None
    return found


def _joined(
    parts: Iterator[slice], revision: Revision, outputs: Array, states: Array, inputs: Mapping[str, Array],
    rows: RecordedRows,
) -> Replayed:  # fmt: skip
    found = Replayed(np.zeros_like(rows.fused), np.zeros(len(rows), np.bool_), None)
    for at in parts:
        one = _fused(revision, *_at(outputs, states, inputs, at))
        found.values[at], found.answered[at], found.abstained[at] = one.values, one.answered, one.abstained
    return found


def _calls(rows: RecordedRows, wanted: NDArray[np.bool_]) -> Iterator[slice]:
    """The calls that hold any of these rows."""
    edges = [0, *(np.flatnonzero(np.diff(rows.calls)) + 1).tolist(), len(rows)]
    for start, stop in pairwise(edges):
        if wanted[start:stop].any():
            yield slice(start, stop)


def _by_answer(rows: RecordedRows) -> Iterator[slice]:
    """The rows of each answer."""
    starts = np.flatnonzero(rows.numbers == 0).tolist()
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield slice(start, stop)
