"""Labelled rows of a record as they come: what is new since the last look, each row once."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quorate.deployments.learning.answer_columns import AnswersMetadata
from quorate.deployments.learning.arrow_file import read_batches
from quorate.deployments.learning.folder import ANSWERS, RecordFolder, StoredFile
from quorate.deployments.learning.label_files import FollowedLabels, read_rows
from quorate.deployments.learning.labels import Label
from quorate.deployments.learning.seen import Seen
from quorate.deployments.wire.answer_id import parse_answer_id

# A label whose answer does not come to be recorded, because its record was dropped, is waited for so long.
WAIT_S = 600.0
# At the first look no more labels are taken than this and what their last file has more: the newest.
MOST_AT_FIRST = 500_000
_NUMBER = r"^[0-9a-f]+-(?P<number>[0-9]+)"

Key = tuple[str, int, str]


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a record with a label each.

    Attributes:
        batch: the answers, as they were recorded.
        labels: of each row, and when that came in microseconds since 1970.
    """

    batch: pa.RecordBatch
    labels: list[Label]
    came_us: NDArray[np.int64]


class Follower:
    """Follows one record. What it has given it does not give again."""

    def __init__(self, folder: RecordFolder):
        self._folder = folder
        self._labels = FollowedLabels(folder)
        self._answers: dict[str, tuple[int, list[tuple[int, int]]]] = {}  # bytes, and numbers in each batch: from, to
        self._given = Seen()
        self._known: dict[Label, Label] = {}  # one object for all that say the same
        self._first = True
        self._waiting: dict[str, dict[Key, tuple[Label, int, float]]] = defaultdict(dict)  # by replica

    def new(self) -> Iterator[LabelledRows]:
        """What is new, batch by batch.

        Raises:
            OSError: the store does not say.
        """
        fresh = self._new_labels()
        files: dict[str, list[StoredFile]] = defaultdict(list)
        answers = self._folder.list(ANSWERS) if self._waiting else []
        for file in answers:
            files[file.replica].append(file)
        if answers:  # those that have gone are forgotten
            self._answers = {file.path: self._answers[file.path] for file in answers if file.path in self._answers}
        for replica, waiting in list(self._waiting.items()):
            for file in files[replica]:
                yield from self._found(file, waiting, fresh.get(replica, ()))
            self._forget_old(replica)

    def _new_labels(self) -> dict[str, list[int]]:
        """Have those wait that came since the last look; returns the numbers of their answers, by replica."""
        fresh: dict[str, list[int]] = defaultdict(list)
        files = self._labels.look()
        if self._first:
            self._leave_out(files)
            self._first = False
        for batch in self._labels.new(files):
            self._take(batch, fresh)
        return fresh

    def _leave_out(self, files: Iterable[StoredFile]) -> None:
        """Pass the oldest files over, where there are too many."""
        labels = 0
        for file in sorted(files, key=lambda file: file.changed_s, reverse=True):
            if labels >= MOST_AT_FIRST:
                self._labels.pass_over(file)
                continue
            with contextlib.suppress(FileNotFoundError):
                labels += sum(batch.num_rows for batch in read_batches(self._folder.files, file.path))

    def _take(self, batch: pa.RecordBatch, fresh: dict[str, list[int]]) -> None:
        rows = list(read_rows(batch))
        keys = [(row.id, row.row, row.output) for row in rows]
        known = self._given.find([hash(key) for key in keys])
        now = time.monotonic()
        for row, key, before in zip(rows, keys, known, strict=True):
            answer = parse_answer_id(row.id)
            if answer is None or before is not None or key in self._waiting[answer.replica]:
                continue  # two doors took one at the same moment: the first that is read counts
            # Of values each label may be another.
            label = row.label if row.label.values else self._known.setdefault(row.label, row.label)
            self._waiting[answer.replica][key] = label, row.time_us, now
            fresh[answer.replica].append(answer.number)

    def _found(
        self, file: StoredFile, waiting: dict[Key, tuple[Label, int, float]], fresh: Iterable[int]
    ) -> Iterator[LabelledRows]:
        """Labelled rows of a file: any in what is new of it, and in the rest those of labels that are."""
        nbytes, spans = self._answers.get(file.path, (0, []))
        numbers = np.unique(np.fromiter(fresh, np.int64))
        if file.nbytes == nbytes and not any(_holds(numbers, *span) for span in spans):
            return
        with contextlib.suppress(FileNotFoundError):
            for at, batch in enumerate(read_batches(self._folder.files, file.path)):
                about = AnswersMetadata.of_schema(batch.schema)
                if about is None:
                    break
                new = at >= len(spans)
                if new:
                    spans.append(_span(batch))
                if waiting and (new or _holds(numbers, *spans[at])):
                    yield from self._match(batch, about.output if about.several else "", waiting)
        self._answers[file.path] = file.nbytes, spans

    def _match(
        self, batch: pa.RecordBatch, output: str, waiting: dict[Key, tuple[Label, int, float]]
    ) -> Iterator[LabelledRows]:
        wanted = pa.array({key[0] for key in waiting}, pa.string())
        places = np.flatnonzero(pc.is_in(batch.column("id"), value_set=wanted).to_numpy(zero_copy_only=False))
        ids, numbers = (batch.column(name).take(pa.array(places)).to_pylist() for name in ("id", "row"))
        keys = [(answer, row, output) for answer, row in zip(ids, numbers, strict=True)]
        found = [(place, key) for place, key in zip(places.tolist(), keys, strict=True) if key in waiting]
        if not found:
            return
        labels = [waiting.pop(key) for _, key in found]
        for _, key in found:
            self._given.add(hash(key), 0)
        came = np.array([time_us for _, time_us, _ in labels], np.int64)
        rows = batch.take(pa.array([place for place, _ in found]))
        yield LabelledRows(rows, [label for label, _, _ in labels], came)

    def _forget_old(self, replica: str) -> None:
        waiting, oldest = self._waiting[replica], time.monotonic() - WAIT_S
        for key in [key for key, (_, _, since) in waiting.items() if since < oldest]:
            del waiting[key]
        if not waiting:
            del self._waiting[replica]


def _span(batch: pa.RecordBatch) -> tuple[int, int]:
    """The least and the largest number of the answers in a batch."""
    found = pc.struct_field(pc.extract_regex(batch.column("id"), _NUMBER), "number").cast(pa.int64())
    ends = pc.min_max(found).as_py()
    return (ends["min"], ends["max"]) if ends["min"] is not None else (0, -1)


def _holds(numbers: NDArray[np.int64], least: int, most: int) -> bool:
    """Whether any of the ascending numbers lies between two."""
    at = int(np.searchsorted(numbers, least))
    return at < len(numbers) and int(numbers[at]) <= most
