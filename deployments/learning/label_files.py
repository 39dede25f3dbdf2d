"""Labels in files of a record: each replica writes its own, and reads what the others wrote since it last looked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from quorate.deployments.learning.arrow_file import ArrowFile, read_batches
from quorate.deployments.learning.folder import LABELS, PLACES, SUFFIX, RecordFolder, StoredFile
from quorate.deployments.learning.labels import Label

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("output", pa.string()),
        pa.field("label", pa.list_(pa.string())),
        pa.field("value", pa.list_(pa.float64())),
        pa.field("time", pa.timestamp("us", "UTC")),
    ],
    {b"quorate": b'{"labels": 1}'},
)
# A local file is closed when it is so long; of a store as many are put, one for each commit, before they are joined.
FILE_BYTES, JOIN_FILES = 16 << 20, 64


class LabelRow(NamedTuple):
    """A label of one row of an answer; ``time_us`` since 1970 it came."""

    id: str
    row: int
    output: str
    label: Label
    time_us: int


def write_rows(rows: Sequence[LabelRow]) -> pa.RecordBatch:
    """Labels as a record batch."""
    ids, numbers, outputs, labels, times = zip(*rows, strict=True)
    columns = [
        pa.array(ids, pa.string()), pa.array(numbers, pa.int32()), pa.array(outputs, pa.string()),
        pa.array([label.classes for label in labels], pa.list_(pa.string())),
        pa.array([label.values for label in labels], pa.list_(pa.float64())),
        pa.array(times, pa.int64()).cast(pa.timestamp("us", "UTC")),
    ]  # fmt: skip
    return pa.record_batch(columns, schema=SCHEMA)


def read_rows(batch: pa.RecordBatch) -> Iterator[LabelRow]:
    """What ``write_rows`` was given."""
    columns = [batch.column(name) for name in SCHEMA.names]
    times = columns.pop().cast(pa.int64()).to_pylist()
    for answer, row, output, classes, values, time_us in zip(*(c.to_pylist() for c in columns), times, strict=True):
        yield LabelRow(answer, row, output, Label(tuple(classes), tuple(values)), time_us)


class FollowedLabels:
    """The files of labels of a record, of which each record batch is read once."""

    def __init__(self, folder: RecordFolder):
        self._folder = folder
        self._read: dict[str, tuple[int, int]] = {}  # by file, its bytes and record batches so far

    def look(self) -> list[StoredFile]:
        """The files that there are; those that have gone are forgotten, and those that come in their stead are new.

        Raises:
            OSError: the store does not say.
        """
        files = self._folder.list(LABELS)
        self._read = {file.path: self._read[file.path] for file in files if file.path in self._read}
        return files

    def new(self, files: Iterable[StoredFile]) -> Iterator[pa.RecordBatch]:
        """What these hold that was not there before."""
        for file in files:
            nbytes, batches = self._read.get(file.path, (0, 0))
            if file.nbytes == nbytes:
                continue
            with contextlib.suppress(FileNotFoundError):
                for batch in read_batches(self._folder.files, file.path, batches):
                    batches += 1
                    yield batch
            self._read[file.path] = file.nbytes, batches

    def pass_over(self, file: StoredFile) -> None:
        """Take what a file holds now as read."""
        for _ in self.new([file]):
            pass


class LabelFiles:
    """One replica's files of labels, and a look at all others'."""

    def __init__(self, folder: RecordFolder, replica: str):
        self._folder, self._replica = folder, replica
        self._own: set[str] = set()
        self._open: ArrowFile | None = None
        self._put: list[tuple[str, pa.RecordBatch]] = []  # of a store, not joined yet
        self._others = FollowedLabels(folder)

    def announce(self) -> None:
        """Let other replicas know of this one, before it gives any answer an id.

        Raises:
            OSError: the store does not take it.
        """
        if self._folder.local:
            self._open = self._begun()
        else:
            self._put_whole(_empty())

    def append(self, rows: Sequence[LabelRow]) -> None:
        """Write labels; they outlive this process and this machine when it returns.

        Raises:
            OSError: none of them is written.
        """
        batch = write_rows(rows)
        if not self._folder.local:
            self._put_whole(batch)
            return
        if self._open is not None and self._open.file.gone:  # too old, before this came
            self.close()
        if self._open is None:
            self._open = self._begun()
        try:
            self._open.write(batch)
            self._open.file.keep()
        except OSError:
            abandoned, self._open = self._open, None
            with contextlib.suppress(OSError):
                abandoned.abandon()
            raise
        if self._open.nbytes >= FILE_BYTES:
            self.close()

    def new_rows(self) -> Iterator[LabelRow]:
        """What others wrote since the last look; at the first what all did, this replica before its settings changed.

        Raises:
            OSError: the store does not say.
        """
        files = self._others.look()
        self._own &= {file.path for file in files}
        for batch in self._others.new(file for file in files if file.path not in self._own):
            yield from read_rows(batch)

    def close(self) -> None:
        """Close the file that is open; what is in it is there anyway."""
        closing, self._open = self._open, None
        if closing is not None:
            with contextlib.suppress(OSError):
                closing.close()

    def _path(self) -> str:
        path = self._folder.path(LABELS, f"{self._replica}-{next(PLACES):06d}{SUFFIX}")
        self._own.add(path)
        return path

    def _begun(self) -> ArrowFile:
        file = ArrowFile(self._folder.grow(self._path()), SCHEMA)
        file.file.keep()
        return file

    def _put_whole(self, batch: pa.RecordBatch) -> None:
        path = self._path()
        file = ArrowFile(self._folder.grow(path), SCHEMA)
        file.write(batch)
        file.close()
        self._put.append((path, batch))
        if len(self._put) > JOIN_FILES:
            put, self._put = self._put, []
            joined = pa.Table.from_batches([batch for _, batch in put]).combine_chunks().to_batches()
            for one in joined[:1]:
                self._put_whole(one)
            # Labels that stand in both are read once: the first counts, and the second is the same.
            for path, _ in put:
                self._folder.delete(path)


def _empty() -> pa.RecordBatch:
    return pa.record_batch([pa.array([], field.type) for field in SCHEMA], schema=SCHEMA)
