"""Rows from a file or from memory to a running ensemble, with the client a user would use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.cluster.arguments.input_rows import is_read, wanted_by
from quorate.deployments.client.client import Client
from quorate.deployments.client.joined_results import joined
from quorate.deployments.client.result import Result
from quorate.deployments.errors import RequestError
from quorate.deployments.rows.reading import read_inputs
from quorate.deployments.rows.uneven import is_uneven, runs
from quorate.deployments.security.credentials import Credentials

if TYPE_CHECKING:
    from quorate.deployments.client.inference import Inputs
    from quorate.deployments.rows.column_names import ColumnNames


def query(
    name: str,
    rows: str | Path | Inputs,
    *,
    member: str | None = None,
    deadline_ms: float | None = None,
    explain: bool = False,
    outputs: Sequence[str] = (),
    columns: ColumnNames | None = None,
    url: str | Sequence[str] | None = None,
    credentials: Credentials | None = None,
    address: str | None = None,
) -> Result:
    """Ask a running ensemble.

    Args:
        name: of the ensemble.
        rows: a file or folder of any kind that ``quorate.deployments.rows`` reads, a data frame, or arrays by input. Of
            a file or a frame, rows of other lengths are asked about one length after the other.
        member: ask this member alone.
        deadline_ms: answer within this time.
        explain: also give each member's output and contribution.
        outputs: those of several that are wanted; all when none are named, without those that have no answer.
        columns: of inputs that the file or frame calls otherwise: ``{"price": "Price"}``; several make one vector.
        url: of the HTTP door, or of several, instead of looking them up.
        credentials: what the doors want to see.
        address: of the Ray cluster; the local one when None.

    Raises:
        ClusterError: no such ensemble runs.
        RequestError: the rows cannot be read, or are not the model's inputs.
        RemoteError: the server refused.
    """
    asked = _asked(deadline_ms, explain, outputs)
    with Client(url or urls_of(name, address), credentials=credentials, model=member or name) as client:
        if not is_read(rows):
            return client.infer(_inputs(rows, client, columns), **asked)
        return joined([client.infer(part, **asked) for part in runs(_inputs(rows, client, columns))])


def curl(
    name: str,
    rows: str | Path | Inputs,
    *,
    member: str | None = None,
    deadline_ms: float | None = None,
    explain: bool = False,
    outputs: Sequence[str] = (),
    columns: ColumnNames | None = None,
    url: str | Sequence[str] | None = None,
    credentials: Credentials | None = None,
    address: str | None = None,
) -> str:
    """The same request as ``query``, not sent but as a line of curl; a token comes from QUORATE_TOKEN.

    Raises:
        RequestError: the rows cannot be read, JSON cannot hold them, or they are too many for a line.
        ClusterError: as ``query``, likewise RemoteError.
    """
    with Client(url or urls_of(name, address), credentials=credentials, model=member or name) as client:
        inputs = _inputs(rows, client, columns)
        if is_read(rows) and any(map(is_uneven, inputs.values())):
            raise RequestError("a request holds rows of one length, and these have several; give those of one")
        return client.curl(inputs, **_asked(deadline_ms, explain, outputs))


def _inputs(rows: Any, client: Client, columns: ColumnNames | None) -> Any:
    if is_read(rows):
        return read_inputs(rows, wanted_by(client.metadata()["inputs"]), columns)
    if columns:
        raise RequestError("columns are given for arrays by name; name the arrays as the inputs")
    return rows


def parameters_of(deadline_ms: float | None, explain: bool) -> dict[str, Any]:
    """The request's parameters, those that differ from the server's defaults."""
    deadline: dict[str, Any] = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
    return {**deadline, "explain": True} if explain else deadline


def _asked(deadline_ms: float | None, explain: bool, outputs: Sequence[str]) -> dict[str, Any]:
    """Those, and the outputs that are wanted."""
    return {**parameters_of(deadline_ms, explain), **({"outputs": list(outputs)} if outputs else {})}


def urls_of(name: str, address: str | None = None) -> tuple[str, ...]:
    """Where an ensemble answers HTTP, on each node that has a door of it.

    Raises:
        ClusterError: no such ensemble runs.
    """
    from quorate.cluster.local.connection import connected, is_jobs_address
    from quorate.cluster.operations.connect import connect
    from quorate.cluster.operations.status import http_urls, running_fusion

    if is_jobs_address(address):
        return connect(name, address=address).urls
    with connected(address):
        return http_urls(running_fusion(name))
