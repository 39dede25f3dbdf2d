"""Folders of images or sounds, with a table beside them or a folder for each class.

The table is ``metadata`` or ``labels`` with the suffix of any table, and has a column ``file_name`` (or ``file``) of
paths below the folder. The files are the column ``image`` (or ``audio``): their bytes, or of .wav files, for a
model that reads numbers, the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.column import Column, Place
from quorate.deployments.rows.tables.table import Table

_IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_SOUNDS = {".wav", ".flac", ".mp3", ".ogg"}
_TABLES = ("metadata", "labels")
_FILE_COLUMNS = ("file_name", "file")
_ROWS = 64  # files are large
LABEL = "label"


class FilesTable:
    """Files, in the order of their rows, beside the columns of a table."""

    def __init__(self, folder: Path, files: Sequence[Path], columns: dict[str, Column]):
        self.source, self._files, self._columns = folder.name, files, columns
        self._kind = "audio" if files and files[0].suffix.lower() in _SOUNDS else "image"
        if self._kind in columns:
            raise RowsError(self.source, f"the table has a column '{self._kind}' too", "rename it")
        self.names = (self._kind, *columns)

    def batches(self, names: Sequence[str]) -> Iterator[dict[str, Column]]:
        for at in range(0, len(self._files), _ROWS):
            yield {name: self._part(name, at) for name in names}

    def _part(self, name: str, at: int) -> Column:
        files = self._files[at : at + _ROWS]
        if name != self._kind:
            column = self._columns[name]
            missing = None if column.missing is None else column.missing[at : at + _ROWS]
            return Column(column.values[at : at + _ROWS], (), len(files), missing, column.kind, column.written)
        found = np.empty(len(files), dtype=object)
        for row, path in enumerate(files):
            try:
                found[row] = path.read_bytes()
            except OSError as error:
                place = Place(self.source, name, at)
                raise place.error(row, f"{path.name} cannot be read ({error.strerror})", "correct its name") from None
        return Column(found, (), len(files), kind=f"{self._kind} files")


def open_media_folder(folder: Path, open_file: Callable[[Path], Table]) -> FilesTable:
    """The files of a folder as rows.

    Args:
        open_file: opens the table beside them.

    Raises:
        RowsError: there are no such files, or the table does not name them.
    """
    table = next((path for path in sorted(folder.iterdir()) if path.is_file() and path.stem in _TABLES), None)
    if table is not None:
        return _with_table(folder, open_file(table))
    by_class = [path for path in sorted(folder.glob("*/*")) if path.suffix.lower() in _IMAGES | _SOUNDS]
    if by_class:
        labels = np.array([path.parent.name for path in by_class], dtype=object)
        return FilesTable(folder, by_class, {LABEL: Column(labels, (), len(labels), kind="text")})
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _IMAGES | _SOUNDS]
    if files:
        return FilesTable(folder, files, {})
    raise RowsError(str(folder), "no rows are in this folder", "give a data set, IDX files, images or .wav files")


def _with_table(folder: Path, table: Table) -> FilesTable:
    from quorate.deployments.rows.column import joined

    named = next((name for name in _FILE_COLUMNS if name in table.names), None)
    if named is None:
        found = f"no column {' or '.join(map(repr, _FILE_COLUMNS))}; it has {', '.join(table.names)}"
        raise RowsError(table.source, found, "name the file of each row")
    parts = list(table.batches(table.names))
    columns = {
        name: joined(Place(table.source, name), [part[name] for part in parts])
        for name in (table.names if parts else ())
    }
    if not columns:
        return FilesTable(folder, [], {})
    files = []
    for row, name in enumerate(columns.pop(named).array().tolist()):
        place = Place(table.source, named)
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise place.error(row, f"{name!r:.60} is no path below the folder", "name files of the folder")
        files.append(folder / name)
    return FilesTable(folder, files, columns)
