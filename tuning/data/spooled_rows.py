"""Batches of rows as one array: in memory, or mapped from a file without a name where they are many."""

# N rows

from __future__ import annotations

import tempfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.rows.uneven import concatenated


class SpooledRows:
    """One input's rows, batch after batch; text always stays in memory."""

    def __init__(self, memory_bytes: int):
        self._memory_bytes, self._held_bytes = memory_bytes, 0
        self._parts: list[NDArray[Any]] = []
        self._file: IO[bytes] | None = None
        self._first: tuple[int, ...] | None = None  # shape of a row
        self._rows, self._even = 0, True  # rows in the file, and whether more may go there

    def append(self, part: NDArray[Any]) -> None:
        """Rows of the dtype of those before; those behind the first of another shape stay in memory."""
        self._held_bytes += part.nbytes
        self._parts.append(part)
        if self._first is None:
            self._first = part.shape[1:]
        self._even = self._even and part.shape[1:] == self._first and not part.dtype.hasobject
        if self._even and (self._file is not None or self._held_bytes > self._memory_bytes):
            self._spill()

    def array(self) -> NDArray[Any]:
        """(N, ...) all of them, (N,) arrays where rows have other shapes; a mapped file goes with its last array."""
        if self._file is None:
            return concatenated(self._parts)
        with self._file as file:
            file.flush()
            mapped = np.memmap(file, dtype=self._dtype, mode="r+", shape=(self._rows, *(self._first or ())))
        return concatenated([mapped, *self._parts])

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="quorate-rows-")  # noqa: SIM115
            self._dtype = self._parts[0].dtype
        for part in self._parts:
            self._file.write(np.ascontiguousarray(part).data)
            self._rows += len(part)
        self._parts = []
