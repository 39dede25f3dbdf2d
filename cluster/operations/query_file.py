"""Rows by the million from a file to a running ensemble and into a file, as a stream: neither is held in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.cluster.arguments.input_rows import wanted_by
from quorate.cluster.operations.query import parameters_of, urls_of
from quorate.deployments.atomic_files import writing_whole
from quorate.deployments.client.client import Client
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import RequestError
from quorate.deployments.rows.opening import RowsLike, open_rows
from quorate.deployments.rows.reading import Wanted, input_batches
from quorate.deployments.rows.uneven import runs
from quorate.deployments.security.credentials import Credentials
from quorate.fusion.extras import require

if TYPE_CHECKING:
    import pyarrow as pa

    from quorate.deployments.client.arrow import ArrowResult
    from quorate.deployments.rows.column_names import ColumnNames

SUFFIXES = (".parquet", ".arrow")
# Columns beside the outputs: of an answer's parameters a file keeps only these.
_ACCOUNT = ("revision", "members_missing")


@dataclass(frozen=True, repr=False)
class Answered(Displayed):
    """Rows that were answered, how many of them without some members, and the file they are in."""

    rows: int
    degraded: int
    output: Path

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {"rows": self.rows, "degraded": self.degraded, "output": str(self.output)}

    def tables(self) -> Sequence[Table]:
        return [Table(lines=[f"{self.rows} rows answered, {self.degraded} of them degraded: {self.output}"])]


def query_file(
    name: str,
    rows: RowsLike,
    output: str | Path,
    *,
    member: str | None = None,
    deadline_ms: float | None = None,
    explain: bool = False,
    outputs: Sequence[str] = (),
    columns: ColumnNames | None = None,
    url: str | Sequence[str] | None = None,
    credentials: Credentials | None = None,
    address: str | None = None,
) -> Answered:
    """Send a file's rows and write the answers as they come; arguments not named here are those of ``query``.

    Args:
        rows: any kind of file, folder or frame, with a column for each of the model's inputs; others do not count. Of
            an input of a free size rows may have other lengths.
        output: .parquet or .arrow; a column for each output, and ``revision`` and ``members_missing``.

    Raises:
        ClusterError: no such ensemble runs.
        RequestError: a file of another kind, or that cannot be read or written.
        RemoteError: the server refused.
    """
    require("arrow", "rows in bulk")
    output = Path(output)
    if output.suffix not in SUFFIXES:
        raise RequestError(f"{output.name} is neither {' nor '.join(SUFFIXES)}; answers in bulk go into one of these")
    parameters = parameters_of(deadline_ms, explain)
    counted = {"rows": 0, "degraded": 0}
    with Client(url or urls_of(name, address), credentials=credentials, model=member or name) as client:
        batches = _batches(rows, wanted_by(client.metadata()["inputs"]), columns)
        try:
            _write(output, _counting(client.infer_arrow(batches, outputs=outputs, **parameters), counted))
        except OSError as error:
            raise RequestError(f"{output.name} cannot be written ({error.strerror}); choose another place") from None
    return Answered(**counted, output=output)


def _batches(rows: RowsLike, inputs: Mapping[str, Wanted], columns: ColumnNames | None) -> Iterator[pa.RecordBatch]:
    """Record batches in exactly the model's types, and of rows of one length, which is what a stream takes."""
    import pyarrow as pa

    from quorate.deployments.wire.arrow_tensors import write_column

    for batch in input_batches(open_rows(rows), inputs, columns):
        for part in runs(batch):
            yield pa.record_batch(
                {name: write_column(array, -1 in (inputs[name].shape or ())) for name, array in part.items()}
            )


def _counting(answers: Iterator[ArrowResult], counted: dict[str, int]) -> Iterator[pa.RecordBatch]:
    for answer in answers:
        counted["rows"] += answer.batch.num_rows
        counted["degraded"] += answer.batch.num_rows if answer.parameters.get("degraded") else 0
        yield _with_account(answer.batch, answer.parameters)


def _write(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    with contextlib.ExitStack() as files:
        writer: Any = None
        for batch in batches:
            if writer is None:
                fresh = files.enter_context(writing_whole(path))
                writer = files.enter_context(_writer(fresh, path.suffix, batch.schema))
            writer.write_batch(batch)


def _writer(path: Path, kind: str, schema: pa.Schema) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    return parquet.ParquetWriter(path, schema) if kind == ".parquet" else pa.ipc.new_file(str(path), schema)


def _with_account(batch: pa.RecordBatch, parameters: Mapping[str, Any]) -> pa.RecordBatch:
    import pyarrow as pa

    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in _ACCOUNT:
        if name in parameters:
            columns[name] = pa.repeat(parameters[name], batch.num_rows)
    return pa.record_batch(columns)
