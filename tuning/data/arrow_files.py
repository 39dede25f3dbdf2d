"""Parquet and Arrow IPC files, batch by batch: what is read at once does not grow with the file."""

# n rows of a batch

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from quorate.tuning.errors import DataError

_BATCH_BYTES = 16 << 20


class ArrowFile(Protocol):
    """An open file.

    Attributes:
        columns: names.
        rows: how many there are.
    """

    columns: Sequence[str]
    rows: int

    def batches(self, names: Sequence[str]) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """Number of the first row, and each column's (n, ...) values; lists come flat, text as objects."""


@contextmanager
def open_arrow(path: Path) -> Iterator[ArrowFile]:
    """Open a .parquet, .arrow or .feather file.

    Raises:
        DataError: there is no such file, it is of another kind, or damaged; also while it is read.
    """
    if not path.is_file():
        raise DataError(str(path), "no such file", "give a .parquet, .arrow, .feather or .npz file")
    kinds: dict[str, type[_Parquet] | type[_Ipc]] = {".parquet": _Parquet, ".arrow": _Ipc, ".feather": _Ipc}
    if path.suffix not in kinds:
        raise DataError(path.name, f"unknown kind {path.suffix!r}", "give .parquet, .arrow, .feather or .npz")
    try:
        yield kinds[path.suffix](path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(path.name, f"damaged: {error}", "write the file again") from error


class _Parquet:
    def __init__(self, path: Path):
        # With its buffering ahead, which is the default, pyarrow 26 keeps every row group that has been read.
        self._file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False)
        self.columns, self.rows = self._file.schema_arrow.names, self._file.metadata.num_rows
        stored = sum(self._file.metadata.row_group(i).total_byte_size for i in range(self._file.num_row_groups))
        self._size = max(1, _BATCH_BYTES // max(1, stored // max(1, self.rows)))

    def batches(self, names: Sequence[str]) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        start = 0
        for batch in self._file.iter_batches(self._size, columns=list(names), use_threads=False):
            yield start, {name: _array(batch.column(name)) for name in names}
            start += len(batch)


class _Ipc:
    def __init__(self, path: Path):
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        self.columns = self._file.schema.names
        self.rows = sum(len(self._file.get_batch(i)) for i in range(self._file.num_record_batches))

    def batches(self, names: Sequence[str]) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        start = 0
        for number in range(self._file.num_record_batches):
            batch = self._file.get_batch(number)
            yield start, {name: _array(batch.column(name)) for name in names}
            start += len(batch)


def _array(values: Any) -> NDArray[Any]:
    if isinstance(values, pa.FixedShapeTensorArray):
        array: NDArray[Any] = values.to_numpy_ndarray()
        return array
    if pa.types.is_fixed_size_list(values.type) and not values.null_count:
        flat: NDArray[Any] = values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
        return flat
    column: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return column
