"""What a split's stored predictions were made from, and the digest of each file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import fs as filesystems

from quorate.tuning.predictions.partitions import replace_file

_VERSION = 2


@dataclass(frozen=True)
class Entry:
    """What one member's predictions were made from, and the digest of each partition.

    Attributes:
        member, code, data: digests.
        out_of_fold: how the models that predicted were trained; None where it is the member itself that predicted.
        partition_rows: rows of every partition but the last.
    """

    member: str
    code: str | None
    data: str
    classes: tuple[str, ...]
    dtype: str
    rows: int
    partition_rows: int
    out_of_fold: str | None = None
    files: tuple[str, ...] = ()

    def difference(self, made_from: Entry) -> str | None:
        """What differs from another entry; None when only files may."""
        for field in ("data", "classes", "rows", "out_of_fold", "member", "code", "dtype", "partition_rows"):
            if getattr(self, field) != getattr(made_from, field):
                return f"its {field} changed"
        return None

    def ranges(self) -> list[slice]:
        """The rows of each partition."""
        starts = range(0, self.rows, self.partition_rows)
        return [slice(start, min(start + self.partition_rows, self.rows)) for start in starts]

    def windows(
        self, numbers: Sequence[int], input_bytes: int, window_bytes: int
    ) -> Iterator[tuple[list[int], slice | NDArray[np.int64]]]:
        """Partitions that are computed at once, with their rows: as many as fit ``window_bytes`` with their inputs.

        Args:
            numbers: of the partitions.
            input_bytes: of one row's inputs.
        """
        row_bytes = input_bytes + 4 * len(self.classes)
        size = len(numbers) if self.out_of_fold else max(1, window_bytes // (row_bytes * self.partition_rows))
        ranges = self.ranges()
        for at in range(0, len(numbers), size):
            some = list(numbers[at : at + size])
            if some[-1] - some[0] == len(some) - 1:
                yield some, slice(ranges[some[0]].start, ranges[some[-1]].stop)
            else:
                yield some, np.r_[tuple(ranges[number] for number in some)]


def read_manifest(files: filesystems.FileSystem, path: str) -> tuple[dict[str, Entry], str | None]:
    """A split's entries by member, and what is wrong with the file where it cannot be used."""
    if files.get_file_info(path).type != filesystems.FileType.File:
        return {}, None
    with files.open_input_stream(path) as file:
        raw = file.read()
    try:
        manifest = json.loads(raw)
        if manifest["version"] != _VERSION:
            return {}, f"the manifest has version {manifest['version']}"
        return {name: _entry(entry) for name, entry in manifest["members"].items()}, None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, "the manifest is damaged"


def write_manifest(files: filesystems.FileSystem, path: str, split: str, entries: Mapping[str, Entry]) -> None:
    """Replace a split's entries."""
    members = {name: asdict(entry) for name, entry in entries.items()}
    text = json.dumps({"version": _VERSION, "split": split, "members": members}, indent=1)
    replace_file(files, path, text.encode())


def describe_damage(damaged: Mapping[int, str], entry: Entry) -> str:
    """A sentence of what is wrong with which partitions."""
    what = " and ".join(sorted(set(damaged.values())))
    if len(entry.files) == 1:
        return f"its file is {what}"
    return f"partition {', '.join(map(str, damaged))} of {len(entry.files)} is {what}"


def _entry(values: Mapping[str, Any]) -> Entry:
    return Entry(**{**values, "classes": tuple(values["classes"]), "files": tuple(values["files"])})
