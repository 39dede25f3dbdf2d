"""Labelled rows in .parquet, .arrow, .feather and .npz files. Labels are matched with class names."""

# N rows

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import Labelled, match_labels, true_values
from quorate.tuning.data.mapped_arrays import mapped_array
from quorate.tuning.data.side_columns import side_column, weights_of
from quorate.tuning.errors import DataError

MEMORY_BYTES = 1 << 30


def read_table(
    path: str | Path,
    inputs: Mapping[str, Sequence[int]],
    classes: Sequence[str],
    label: str = "label",
    memory_bytes: int = MEMORY_BYTES,
    groups: str | None = None,
    times: str | None = None,
    weights: str | None = None,
) -> Labelled:
    """Read labelled rows from .parquet, .arrow, .feather or .npz.

    Args:
        path: the file.
        inputs: column of each request input -> shape of one row; lists may be stored flat, npz arrays already shaped.
        classes: class names of the spec; a label is the name of a class, or an integer that reads as one. Where there
            are none it is a value, or a list of values; a list of 0 and 1 says which classes hold.
        label: name of the label column.
        memory_bytes: an input with more than this is read into a file without a name and mapped from there, whatever
            memory there is; text and npz are always held in memory.
        groups, times, weights: names of the columns by which rows belong together, are ordered and count, or None.

    Raises:
        DataError: a column is missing, a row has another size, or a label is no class.
    """
    path = Path(path)
    side = [name for name in (groups, times, weights) if name is not None]
    wanted = (*inputs, label, *side)

    def labelled(arrays: Mapping[str, NDArray[Any]], columns: Mapping[str, NDArray[Any]]) -> Labelled:
        of = {name: side_column(path, name, columns) for name in (groups, times) if name is not None}
        counts = None if weights is None else weights_of(path, weights, columns)
        column = columns[label]
        listed = column.ndim == 2 or (column.dtype == object and len(column) > 0 and np.ndim(column[0]) == 1)
        named = classes and not listed
        found = match_labels(column, classes, path.name) if named else true_values(column, path.name)
        return Labelled(arrays, found, tuple(classes), of.get(groups or ""), of.get(times or ""), counts)

    if path.suffix == ".npz":
        columns = _read_npz(path)
        _check_columns(path, columns, wanted)
        _check_lengths(path, {name: columns[name] for name in wanted})
        arrays = {name: _shaped(path, name, columns[name], tuple(shape)) for name, shape in inputs.items()}
        return labelled(arrays, columns)
    from quorate.tuning.data.arrow_files import open_arrow

    with open_arrow(path) as file:
        _check_columns(path, file.columns, wanted)
        gathered = {name: _Gathered(path, name, tuple(shape), memory_bytes) for name, shape in inputs.items()}
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in (label, *side)}
        for start, batch in file.batches(wanted):
            for name, part in parts.items():
                part.append(batch[name])
            for name, rows in gathered.items():
                rows.take(start, batch[name], file.rows)
    columns = {name: np.concatenate(part) if part else np.zeros(0, np.int64) for name, part in parts.items()}
    return labelled({name: rows.array for name, rows in gathered.items()}, columns)


def read_columns(path: Path, text: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """All columns of a .parquet, .csv, .arrow, .feather or .npz file, of one length.

    Args:
        path: the file.
        text: columns of a .csv file that stay as they are written: 010 is no 10.

    Raises:
        DataError: it cannot be read, or has no row.
    """
    if path.suffix == ".csv":
        columns = _read_csv(path, text)
    elif path.suffix == ".npz":
        columns = _read_npz(path)
        _check_lengths(path, columns)
    else:
        from quorate.tuning.data.arrow_files import open_arrow

        with open_arrow(path) as file:
            parts = [batch for _, batch in file.batches(file.columns)]
            columns = {n: np.concatenate([part[n] for part in parts]) if parts else np.zeros(0) for n in file.columns}
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(path.name, "no rows", "give hundreds")
    return columns


def _read_csv(path: Path, text: Sequence[str]) -> dict[str, NDArray[Any]]:
    import pyarrow as pa
    from pyarrow import csv

    if not path.is_file():
        raise DataError(str(path), "no such file", "give a .parquet, .csv, .arrow, .feather or .npz file")
    try:
        kinds = csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()))
        table = csv.read_csv(path, convert_options=kinds)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(path.name, f"no table: {str(error).splitlines()[0][:200]}", "write it with commas") from None
    return {name: table.column(name).to_numpy() for name in table.column_names}


class _Gathered:
    """One input's rows, batch after batch: in memory, or in a file when they are many."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], memory_bytes: int):
        self.path, self.name, self.shape, self.memory_bytes = path, name, shape, memory_bytes
        self.array: NDArray[Any] = np.zeros((0, *(max(size, 0) for size in shape)), np.float32)

    def take(self, start: int, column: NDArray[Any], rows: int) -> None:
        """Rows from ``start`` on, of ``rows`` in all."""
        part = _shaped(self.path, self.name, column, self.shape)
        if start == 0:
            self.array = self._allocated((rows, *part.shape[1:]), part.dtype)
        if part.shape[1:] != self.array.shape[1:]:
            found = f"rows of column {self.name!r} differ in size"
            raise DataError(self.path.name, found, f"give rows of {self.shape}")
        if part.dtype != self.array.dtype:  # text is no array of one width, and nulls make floats of integers
            self.array = self.array.astype(np.result_type(part.dtype, self.array.dtype))
        self.array[start : start + len(part)] = part

    def _allocated(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        if dtype.hasobject or math.prod(shape) * dtype.itemsize <= self.memory_bytes:
            return np.empty(shape, dtype)
        return mapped_array(shape, dtype)


def _check_columns(path: Path, found: Collection[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in found:
            fix = f"it has {', '.join(sorted(found))}; name it as the spec does"
            raise DataError(path.name, f"no column {name!r}", fix)


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError(str(path), "no such file", "give a .parquet, .arrow, .feather or .npz file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except Exception:  # numpy lets out what zipfile, zlib and the tokenizer of a header raise
        fix = "write it with numpy.savez, text as an array of strings"
        raise DataError(path.name, "damaged, or an array of Python objects", fix) from None


def _check_lengths(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    rows = {name: len(column) if column.ndim else 0 for name, column in columns.items()}
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{count} rows of {name!r}" for name, count in rows.items())
        raise DataError(path.name, found, "give as many of each")


def _shaped(path: Path, name: str, column: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if column.dtype == object and len(column) and not isinstance(column[0], (str, bytes)):
        try:
            column = np.stack([np.asarray(row).reshape(-1) for row in column])
        except ValueError as error:
            raise DataError(path.name, f"rows of column {name!r} differ in size", f"give rows of {shape}") from error
    if -1 not in shape and column.size != len(column) * int(np.prod(shape)):
        found = f"column {name!r} has rows of shape {column.shape[1:]}"
        raise DataError(path.name, found, f"the spec's input has shape {list(shape)}")
    return np.ascontiguousarray(column if -1 in shape else column.reshape(len(column), *shape))
