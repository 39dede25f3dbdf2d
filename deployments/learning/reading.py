"""What a record holds, for whoever learns from it: rows as they were answered, and the labels that came for them.

Entry point: ``record = open_record("/var/lib/quorate/digits"); labels = record.labels()``, then for each of
``record.rows()``: ``labels.of(rows)``.
"""

# M members, R rows, C classes

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs as filesystems

from quorate.deployments.engine.revision import Revision
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.answer_columns import AnswersMetadata, layer_arrays
from quorate.deployments.learning.arrow_file import read_batches
from quorate.deployments.learning.folder import ANSWERS, LABELS, RecordFolder
from quorate.deployments.learning.kept_revisions import kept_revision, kept_spec
from quorate.deployments.learning.label_files import read_rows
from quorate.deployments.learning.labels import Label
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.uris import inside
from quorate.deployments.transport.row_state import RowState

Array = NDArray[Any]
_CODES = {state.reason: int(state) for state in RowState}


@dataclass(frozen=True)
class RecordedRows:
    """Rows that one revision answered, in the order in which they were written.

    Attributes:
        about: which revision, members, classes; whether outputs are exact.
        ids: (R,) text, the answers', and numbers (R,) of the rows in these.
        times_us: (R,) since 1970.
        calls: (R,) rows of one number stand together and were fused together.
        outputs: (M, R, ...) float32 of ``about.layers``, as the rule read them.
        states: (M, R) RowState of ``about.members``.
        fused: (R, ...) what was answered, and its coverage (R,).
        abstained: (R,) bool; None of a rule that never declines.
        batch: all columns, those that are not said here too.
    """

    about: AnswersMetadata
    ids: NDArray[np.object_]
    numbers: NDArray[np.int32]
    times_us: NDArray[np.int64]
    calls: NDArray[np.int64]
    outputs: NDArray[np.float32]
    states: NDArray[np.uint8]
    fused: NDArray[np.float32]
    coverage: NDArray[np.float32]
    abstained: NDArray[np.bool_] | None
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass
class Labels:
    """The labels of a record.

    Attributes:
        found: by answer, row and output (empty where there is one).
        again: how often a label was there twice, and ``contradicting`` a row had another one: two replicas took it at
            the same time. The one that came first counts.
    """

    found: dict[tuple[str, int, str], Label] = field(default_factory=dict)
    times_us: dict[tuple[str, int, str], int] = field(default_factory=dict)
    again: int = 0
    contradicting: int = 0

    def __len__(self) -> int:
        return len(self.found)

    def of(self, rows: RecordedRows) -> list[Label | None]:
        """Each row's; None where it has none, or one of classes that those who answered did not know."""
        if not self.found:
            return [None] * len(rows)
        find, classes = self.found.get, frozenset(rows.about.classes)
        found = [find(key) for key in _keys(rows)]
        return [None if label is None or not label_fits(label, classes) else label for label in found]

    def came_us(self, rows: RecordedRows) -> NDArray[np.int64]:
        """(R,) when each row's label came, since 1970; 0 where there is none."""
        return np.array([self.times_us.get(key, 0) for key in _keys(rows)], np.int64)


class Record:
    """One ensemble's record."""

    def __init__(self, folder: RecordFolder):
        self.folder = folder

    def rows(self, replica: str = "") -> Iterator[RecordedRows]:
        """All rows, or those of one replica, file by file; a file that goes meanwhile is left out."""
        for file in self.folder.list(ANSWERS):
            if replica not in ("", file.replica):
                continue
            with contextlib.suppress(FileNotFoundError):
                for batch in read_batches(self.folder.files, file.path):
                    about = AnswersMetadata.of_schema(batch.schema)
                    if about is not None:
                        yield from rows_of_batch(batch, about)

    def rows_in_order(self) -> Iterator[RecordedRows]:
        """All rows, those of several replicas as time went: by the first row of what each wrote at once."""
        replicas = dict.fromkeys(file.replica for file in self.folder.list(ANSWERS))
        streams = [self.rows(replica) for replica in replicas]
        return heapq.merge(*streams, key=lambda rows: int(rows.times_us[0]))

    def labels(self) -> Labels:
        """All labels."""
        labels = Labels()
        known: dict[Label, Label] = {}  # one object for all that say the same
        for file in self.folder.list(LABELS):
            with contextlib.suppress(FileNotFoundError):
                for batch in read_batches(self.folder.files, file.path):
                    for row in read_rows(batch):
                        _take(
                            labels, (row.id, row.row, row.output), known.setdefault(row.label, row.label), row.time_us
                        )
        return labels

    def revision(self, name: str, scratch: Path) -> Revision:
        """What answered, ready to fuse again; see ``kept_revision``."""
        return kept_revision(self.folder, name, scratch)

    def spec(self, revision: str) -> EnsembleSpec | None:
        """That of a revision, as it was deployed; None where it is not there."""
        return kept_spec(self.folder, revision)


def _keys(rows: RecordedRows) -> Iterator[tuple[str, int, str]]:
    name = rows.about.output if rows.about.several else ""
    return ((i, n, name) for i, n in zip(rows.ids.tolist(), rows.numbers.tolist(), strict=True))


def label_fits(label: Label, classes: Collection[str]) -> bool:
    """Whether a label is of those that who answered knew."""
    return all(one in classes for one in label.classes) and bool(classes) != bool(label.values)


def _take(labels: Labels, key: tuple[str, int, str], label: Label, time_us: int) -> None:
    before = labels.found.get(key)
    if before is None:
        labels.found[key], labels.times_us[key] = label, time_us
        return
    if before == label:
        labels.again += 1
        return
    labels.contradicting += 1
    if time_us < labels.times_us[key]:
        labels.found[key], labels.times_us[key] = label, time_us


def open_record(location: str | Path) -> Record:
    """The record at a place: an ensemble's own folder, or one that holds those of one ensemble only.

    Raises:
        RequestError: there is none, or there are several.
    """
    try:
        folder = RecordFolder(location)
        if folder.list(ANSWERS) or folder.list(LABELS):
            return Record(folder)
        chosen = filesystems.FileSelector(folder.root, allow_not_found=True)
        inner = [info.base_name for info in folder.files.get_file_info(chosen) if not info.is_file]
        found = [name for name in inner if RecordFolder(inside(str(location), name)).list(ANSWERS)]
    except (OSError, ValueError) as error:
        raise RequestError(f"{location} cannot be read ({error}); give the folder or URI of a record") from None
    if len(found) == 1:
        return Record(RecordFolder(inside(str(location), found[0])))
    what = f"holds records of {', '.join(sorted(found))}" if found else "holds no record of answers"
    raise RequestError(f"{location} {what}; give the folder that the spec's record names, and the ensemble's in it")


def is_record(location: str | Path) -> bool:
    """Whether answers are recorded at a place, rather than that it is something else."""
    if "://" not in str(location) and not Path(location).is_dir():
        return False
    with contextlib.suppress(RequestError):
        open_record(location)
        return True
    return False


def rows_of_batch(batch: pa.RecordBatch, about: AnswersMetadata) -> Iterator[RecordedRows]:
    """A batch of a file of answers; of tokens in runs of one length."""
    ids = batch.column("id").to_numpy(zero_copy_only=False)
    numbers, calls = batch.column("row").to_numpy(), batch.column("call").to_numpy()
    times, coverage = batch.column("time").cast(pa.int64()).to_numpy(), batch.column("coverage").to_numpy()
    states = np.stack([_states(batch.column(f"state/{name}")) for name in about.members])
    declined = None
    if "abstained" in batch.schema.names:
        declined = batch.column("abstained").to_numpy(zero_copy_only=False)
    for at, arrays in layer_arrays(batch, about):
        outputs = np.stack([arrays[f"output/{name}"] for name in about.layers]).astype(np.float32, copy=False)
        yield RecordedRows(
            about, ids[at], numbers[at], times[at], calls[at], outputs, states[:, at], arrays["fused"], coverage[at],
            None if declined is None else declined[at], batch.slice(at.start, at.stop - at.start),
        )  # fmt: skip


def _states(column: pa.Array) -> NDArray[np.uint8]:
    words = column.dictionary.to_pylist()
    codes = np.array([_CODES.get(word, int(RowState.ERROR)) for word in words], np.uint8)
    found: NDArray[np.uint8] = codes[column.indices.to_numpy()]
    return found
