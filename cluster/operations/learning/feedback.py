"""Labels from a file to a running ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quorate.cluster.operations.query import urls_of
from quorate.deployments.client.client import Client
from quorate.deployments.errors import RowsError
from quorate.deployments.rows.opening import open_rows
from quorate.deployments.rows.tables.table import Table
from quorate.deployments.rows.written import typed
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.wire.feedback import FeedbackReply, GivenLabel

if TYPE_CHECKING:
    from quorate.deployments.rows.opening import RowsLike


def feedback(
    name: str,
    labels: RowsLike,
    *,
    output: str = "",
    url: str | Sequence[str] | None = None,
    credentials: Credentials | None = None,
    address: str | None = None,
) -> FeedbackReply:
    """Tell a running ensemble what was true of rows that it answered.

    Args:
        name: the ensemble.
        labels: a file, folder or frame with columns ``id`` (an answer's ``answer_id``) and ``label``, and ``row`` where
            answers have several rows, ``output`` where the ensemble has several.
        output: that all labels are of.
        url, credentials, address: as of ``query``.

    Raises:
        ClusterError: no such ensemble runs.
        RowsError: the file cannot be read, or has other columns.
        RemoteError: the server refused.
    """
    with Client(url or urls_of(name, address), credentials=credentials, model=name) as client:
        found, sent = FeedbackReply.of([]), 0
        for part in _batches(open_rows(labels), client.metadata()["outputs"], output):
            found, sent = found.joined(client.feedback(part), sent), sent + len(part)
    return found


def _batches(table: Table, described: Sequence[Mapping[str, Any]], output: str) -> Iterator[list[GivenLabel]]:
    """Labels, some at a time.

    Args:
        described: the ensemble's outputs, as its metadata says.
        output: of those that name none.
    """
    if not {"id", "label"} <= set(table.names):
        found = f"columns {', '.join(table.names[:10])}"
        raise RowsError(table.source, found, "name them id and label, and row or output where they are needed")
    of_classes = {one["name"]: "classes" in (one.get("parameters") or {}) for one in described}
    names = [name for name in ("id", "label", "row", "output") if name in table.names]
    for batch in table.batches(names):
        columns = {n: (typed(c) if n == "row" else c).array().tolist() for n, c in batch.items()}
        count = len(columns["id"])
        rows, outputs = columns.get("row", [0] * count), columns.get("output", [output] * count)
        yield [
            GivenLabel(str(answer), _said(label, of_classes.get(of or next(iter(of_classes)), True)), int(row), of)
            for answer, label, row, of in zip(columns["id"], columns["label"], rows, outputs, strict=True)
        ]


def _said(label: Any, of_classes: bool) -> Any:
    """A value that a file without types has as text is a number."""
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    if of_classes or not isinstance(label, str):
        return label
    try:
        return float(label)
    except ValueError:  # the server says what is wrong with it
        return label
