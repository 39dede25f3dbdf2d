"""Arrays: .npy, .npz, or in memory by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.column import Column, Place
from quorate.deployments.rows.nested_lists import column_of as column_of_lists
from quorate.deployments.rows.tables.table import BATCH_BYTES, UNNAMED

_FIX = "write it with numpy.savez, text as an array of dtype 'U', or as .parquet"


class ArraysTable:
    """Arrays in memory, (R, ...) each."""

    def __init__(self, source: str, arrays: Mapping[str, NDArray[Any]]):
        self.source, self.names, self._arrays = source, tuple(arrays), arrays

    def batches(self, names: Sequence[str]) -> Iterator[dict[str, Column]]:
        rows = {name: len(self._arrays[name]) if self._arrays[name].ndim else 0 for name in names}
        if len(set(rows.values())) > 1:
            found = ", ".join(f"{count} rows of '{name}'" for name, count in rows.items())
            raise RowsError(self.source, found, "give as many of each")
        total = next(iter(rows.values()), 0)
        step = max(1, BATCH_BYTES // max(1, max(self._arrays[name][:1].nbytes for name in names))) if total else 1
        for at in range(0, total, step):
            yield {name: column_of(self._arrays[name][at : at + step], Place(self.source, name, at)) for name in names}


def column_of(array: NDArray[Any], place: Place) -> Column:
    """A column of an array (R, ...).

    Raises:
        RowsError: it is of numbers that no model reads.
    """
    if array.dtype == object:
        return column_of_lists(list(array), place)
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.kind in "US":
        text = np.empty(len(flat), dtype=object)
        text[:] = flat.tolist()
        return Column(text, array.shape[1:], len(array), kind="text")
    if array.dtype.kind in "cmM" or array.dtype.names:
        return Column(flat, array.shape[1:], len(array), kind=str(array.dtype))
    native = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    return Column(native, array.shape[1:], len(array), kind=str(array.dtype))


def open_numpy(path: Path) -> ArraysTable:
    """A .npy or .npz file.

    Raises:
        RowsError: it is damaged, or holds Python's objects, which would have to be unpickled.
    """
    try:
        with path.open("rb") as file:  # numpy leaves a file open that it fails on
            found: Any = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return ArraysTable(path.name, {UNNAMED: found})
            with found as archive:
                return ArraysTable(path.name, dict(archive))
    except Exception as error:  # numpy lets out what zipfile, zlib and the tokenizer of a header raise
        found = "damaged, or an array of Python objects" if "pickle" in str(error) else "damaged"
        raise RowsError(path.name, f"{found} ({' '.join(str(error).split())[:100]})", _FIX) from None
