"""Recorded rows as drift looks at them, those with labels as these came: of a record, or at a door."""

# M members, R rows

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.answer_columns import AnswersMetadata
from quorate.deployments.learning.drift.rows import Rows
from quorate.deployments.learning.folder import LABELS, RecordFolder, StoredFile
from quorate.deployments.learning.labels import Label, true_arrays
from quorate.deployments.learning.online.following import Follower
from quorate.deployments.learning.reading import Labels, Record, RecordedRows, label_fits, rows_of_batch

# Of other tasks a label is no class, no several classes and no value of each row.
_TASKS = ("classification", "binary", "multilabel", "regression")


class LabelledPart(NamedTuple):
    """Labelled rows of one output of one revision; their times are those at which their labels came."""

    revision: str
    output: str
    rows: Rows


def answered_rows(rows: RecordedRows) -> Rows:
    """Recorded rows, without labels."""
    said = np.ones(len(rows), np.bool_) if rows.abstained is None else ~rows.abstained
    answers = np.cumsum(rows.numbers == 0).astype(np.int64)
    return Rows(rows.outputs, rows.states, rows.fused, said, answers, rows.times_us / 1e6)


def labelled_part(
    rows: RecordedRows, labels: Sequence[Label | None], came_us: NDArray[np.int64]
) -> LabelledPart | None:
    """Those of recorded rows that have a label; None where none has, or labels say nothing of a row by itself."""
    about = rows.about
    known = np.flatnonzero([label is not None for label in labels])
    if not len(known) or about.task not in _TASKS:
        return None
    truth = true_arrays(about.classes, about.task, [label for label in labels if label is not None])
    found = replace(answered_rows(rows), times_s=came_us / 1e6).part(known).with_truth(truth)
    return LabelledPart(about.revision, about.output if about.several else "", found)


class LateLabels:
    """All labelled rows of a record, given out as their labels came."""

    def __init__(self, record: Record, labels: Labels):
        found = (labelled_part(rows, labels.of(rows), labels.came_us(rows)) for rows in record.rows())
        self._parts = [part for part in found if part is not None] if len(labels) else []
        self._given_s = -np.inf

    def until(self, time_s: float) -> Iterator[LabelledPart]:
        """Those whose labels came by then, and have not been given; parts in the order of their first."""
        since_s, self._given_s = self._given_s, time_s
        due: list[LabelledPart] = []
        for part in self._parts:
            times = part.rows.times_s
            places = np.flatnonzero((times > since_s) & (times <= time_s))
            if len(places):
                ordered = places[np.argsort(times[places], kind="stable")]
                due.append(part._replace(rows=part.rows.part(ordered)))
        yield from sorted(due, key=lambda part: float(part.rows.times_s[0]))


class OwnLabels:
    """Labelled rows as a door sees them: those whose labels it has taken itself, each once."""

    def __init__(self, location: str, replica: str):
        """Args:
        location: of the ensemble's folder.
        replica: whose labels.

        Raises:
            OSError, ValueError: there is no such file system.
        """
        self._follower = Follower(_OwnFolder(location, replica))

    def new(self) -> Iterator[LabelledPart]:
        """What is new since the last look.

        Raises:
            OSError: the store does not say.
        """
        for found in self._follower.new():
            about = AnswersMetadata.of_schema(found.batch.schema)
            if about is None:
                continue
            at = 0
            for rows in rows_of_batch(found.batch, about):
                mine = slice(at, at + len(rows))
                at = mine.stop
                fitting = [one if label_fits(one, about.classes) else None for one in found.labels[mine]]
                part = labelled_part(rows, fitting, found.came_us[mine])
                if part is not None:
                    yield part


class _OwnFolder(RecordFolder):
    """A record in which other doors have taken no labels."""

    def __init__(self, location: str, replica: str):
        super().__init__(location)
        self._replica = replica

    def list(self, kind: str) -> list[StoredFile]:
        return [file for file in super().list(kind) if kind != LABELS or file.replica == self._replica]
