"""Comma- and tab-separated text. It has no types: all is text as it is written, until it is known what reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.tables.arrow_files import ArrowTable
from quorate.deployments.rows.tables.table import BATCH_BYTES


def open_delimited(path: Path, delimiter: str) -> ArrowTable:
    """A .csv or .tsv file, compressed or not, whose first line names the columns.

    Raises:
        RowsError: it is no such table, or names a column twice.
    """
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    blocks = csv.ReadOptions(block_size=BATCH_BYTES)  # no line may be longer

    def reader(names: list[str], every: list[str]) -> csv.CSVStreamingReader:
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(every, pa.string()), include_columns=names, null_values=[""],
            strings_can_be_null=True, quoted_strings_can_be_null=False,
        )  # fmt: skip
        return csv.open_csv(path, blocks, parse, convert)

    try:
        with csv.open_csv(path, blocks, parse) as first:
            schema = first.schema
        counts = Counter(schema.names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())[:200]
        fix = "write a first line of names, and as many values a line" if "Empty" not in what else "give rows"
        raise RowsError(path.name, f"no table: {what}", fix) from None
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise RowsError(path.name, f"column '{twice[0]}' is there twice", "give each column a name of its own")

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        with reader(names, schema.names) as batches:
            yield from batches

    return ArrowTable(path.name, schema, read, written=True)
