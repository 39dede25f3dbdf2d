"""Rows by the million from a file to a running ensemble and into a file, as a stream: neither is ever held whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from quorate.deployments.client.client import Client
from quorate.deployments.errors import RequestError
from quorate.deployments.security.credentials import Credentials

SUFFIXES = (".parquet", ".arrow")
_ROWS = 4096
# Columns beside the outputs: what an answer says of itself, row by row, since a file keeps no more of it.
_ACCOUNT = ("revision", "members_missing")


def ask_file(
    url: str,
    model: str,
    path: Path,
    output: Path,
    parameters: Mapping[str, Any],
    credentials: Credentials | None = None,
) -> dict[str, int]:
    """Send a file's rows and write the answers as they come.

    Args:
        path: .parquet or .arrow, with a column for each of the model's inputs; others stay where they are.
        output: .parquet or .arrow; a column for each output, and ``revision`` and ``members_missing``.

    Returns:
        ``rows`` that were answered, and of these ``degraded``.

    Raises:
        RequestError: a file of another kind, or that cannot be read or written.
        RemoteError: the server refused.
    """
    for file in (path, output):
        if file.suffix not in SUFFIXES:
            raise RequestError(
                f"{file.name} is neither {' nor '.join(SUFFIXES)}; rows in bulk go from one to the other"
            )
    counted = {"rows": 0, "degraded": 0}
    with Client(url, credentials=credentials) as client, contextlib.ExitStack() as files:
        names = [item["name"] for item in client.metadata(model)["inputs"]]
        writer: Any = None
        try:
            for answer in client.infer_arrow(read_batches(path, names), model, **parameters):
                batch = _with_account(answer.batch, answer.parameters)
                if writer is None:
                    writer = files.enter_context(_writer(output, batch.schema))
                writer.write_batch(batch)
                counted["rows"] += batch.num_rows
                counted["degraded"] += batch.num_rows if answer.parameters.get("degraded") else 0
        except OSError as error:
            raise RequestError(f"{output.name} cannot be written ({error.strerror}); choose another place") from None
    return counted


def read_batches(path: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    """The columns of these names, a few thousand rows at a time.

    Raises:
        RequestError: the file cannot be read, or lacks a column.
    """
    try:
        if path.suffix == ".parquet":
            found = parquet.ParquetFile(path)
            schema, batches = found.schema_arrow, found.iter_batches(_ROWS, columns=names)
        else:
            schema, batches = _ipc(path)
        missing = [name for name in names if name not in schema.names]
        if missing:
            raise RequestError(f"{path.name} has no column {', '.join(missing)}; the model reads {', '.join(names)}")
        for batch in batches:
            yield batch.select(names)
    except (OSError, pa.ArrowException) as error:
        raise RequestError(f"{path.name} cannot be read ({' '.join(str(error).split())[:200]})") from None


def _ipc(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """An Arrow file, in either of its two formats."""
    source = pa.memory_map(str(path))
    try:
        file = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        return stream.schema, iter(stream)
    return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))


def _writer(path: Path, schema: pa.Schema) -> Any:
    return parquet.ParquetWriter(path, schema) if path.suffix == ".parquet" else pa.ipc.new_file(str(path), schema)


def _with_account(batch: pa.RecordBatch, parameters: Mapping[str, Any]) -> pa.RecordBatch:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in _ACCOUNT:
        if name in parameters:
            columns[name] = pa.repeat(parameters[name], batch.num_rows)
    return pa.record_batch(columns)
