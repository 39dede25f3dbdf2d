"""Batches of rows as one array: in memory, or mapped from a file without a name where they are many."""

# N rows

from __future__ import annotations

import tempfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


class SpooledRows:
    """One input's rows, batch after batch; text always stays in memory."""

    def __init__(self, memory_bytes: int):
        self._memory_bytes, self._held_bytes = memory_bytes, 0
        self._parts: list[NDArray[Any]] = []
        self._file: IO[bytes] | None = None
        self._rows = 0

    def append(self, part: NDArray[Any]) -> None:
        """Rows of the shape and dtype of those before."""
        self._held_bytes += part.nbytes
        self._parts.append(part)
        self._rows += len(part)
        if not part.dtype.hasobject and (self._file is not None or self._held_bytes > self._memory_bytes):
            self._spill()

    def array(self) -> NDArray[Any]:
        """(N, ...) all of them; a mapped file goes with the last array that is mapped from it."""
        if self._file is None:
            return np.concatenate(self._parts) if len(self._parts) > 1 else self._parts[0]
        with self._file as file:
            file.flush()
            return np.memmap(file, dtype=self._dtype, mode="r+", shape=(self._rows, *self._shape))

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="quorate-rows-")  # noqa: SIM115
            self._dtype, self._shape = self._parts[0].dtype, self._parts[0].shape[1:]
        for part in self._parts:
            self._file.write(np.ascontiguousarray(part).data)
        self._parts = []
