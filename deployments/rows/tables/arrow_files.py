"""Parquet, Arrow files and streams, and Arrow tables in memory, record batch by record batch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.arrow_columns import column_of
from quorate.deployments.rows.column import Column, Place
from quorate.deployments.rows.tables.table import BATCH_BYTES, BATCH_ROWS


class ArrowTable:
    """Record batches under one schema."""

    def __init__(self, source: str, schema: pa.Schema, read: Any, written: bool = False):
        """Args: read: called with names of columns, gives record batches that hold at least these."""
        self.source, self.names, self._read, self._written = source, tuple(schema.names), read, written
        self._classes = _class_names(schema)

    def batches(self, names: Sequence[str]) -> Iterator[dict[str, Column]]:
        start = 0
        try:
            for batch in self._read(list(names)):
                step = max(1, min(BATCH_ROWS, BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1)))
                for at in range(0, batch.num_rows, step):
                    part = batch.slice(at, step)
                    yield {name: self._column(part.column(name), name, start + at) for name in names}
                start += batch.num_rows
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise damaged(self.source, error) from None

    def _column(self, array: Any, name: str, start: int) -> Column:
        if name in self._classes:  # Hugging Face keeps the number of a class, and the names beside it
            known = pc.if_else(pc.less(array, 0), pa.scalar(None, array.type), array)  # -1 where there is no label
            array = pa.DictionaryArray.from_arrays(known.cast(pa.int32()), pa.array(self._classes[name]))
        return column_of(array, Place(self.source, name, start), self._written)


def damaged(source: str, error: Exception) -> RowsError:
    """The sentence for a file that pyarrow cannot read."""
    return RowsError(source, f"damaged: {' '.join(str(error).split())[:200]}", "write the file again")


def open_parquet(path: Path) -> ArrowTable:
    """Raises RowsError where it is damaged."""
    try:
        # With its buffering ahead, which is the default, pyarrow 26 keeps every row group that has been read.
        file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False)
        stored = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, stored // max(1, file.metadata.num_rows))))
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise damaged(path.name, error) from None
    return ArrowTable(path.name, schema, lambda names: file.iter_batches(size, columns=names, use_threads=False))


def open_arrow(paths: Sequence[Path], source: str) -> ArrowTable:
    """Arrow files, in either of the two formats, one after the other.

    Raises:
        RowsError: the first is damaged.
    """
    try:
        schema = _ipc(paths[0])[0]
    except (pa.ArrowException, OSError) as error:
        raise damaged(source, error) from None

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        for path in paths:
            for batch in _ipc(path)[1]:
                batch.validate(full=True)
                yield batch

    return ArrowTable(source, schema, read)


def _ipc(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    source = pa.memory_map(str(path))
    try:
        file = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        return stream.schema, iter(stream)
    return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))


def of_table(table: pa.Table, source: str) -> ArrowTable:
    """A table in memory."""
    return ArrowTable(source, table.schema, lambda names: table.select(names).to_batches())


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of classes of columns that Hugging Face's ``ClassLabel`` has numbered."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: list(map(str, one["names"])) for name, one in features.items()
            if isinstance(one, dict) and one.get("_type") == "ClassLabel" and one.get("names") and name in schema.names
        }  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
