"""Load a running ensemble and measure latency and throughput."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quorate.cluster.arguments.input_rows import wanted_by
from quorate.cluster.operations.query import urls_of
from quorate.deployments.client.client import Client
from quorate.deployments.rows.opening import RowsLike
from quorate.deployments.rows.reading import read_inputs
from quorate.deployments.security.credentials import Credentials
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.deployments.client.load.load_test import BenchResult
    from quorate.deployments.rows.column_names import ColumnNames


def bench(
    name: str,
    *,
    inputs: RowsLike | None = None,
    columns: ColumnNames | None = None,
    clients: int = 8,
    rate: float | None = None,
    rows: int = 1,
    duration_s: float = 10.0,
    member: str | None = None,
    url: str | Sequence[str] | None = None,
    credentials: Credentials | None = None,
    address: str | None = None,
) -> BenchResult:
    """Ask a running ensemble with random valid input, or with rows that are given.

    Args:
        name: of the ensemble.
        inputs: a file, folder, frame or arrays as ``query`` reads; ``rows`` of them are sent at a time, in turn.
        columns: of inputs that it calls otherwise.
        clients: connections; each waits for its answer.
        rate: requests a second, sent on time whatever comes back (open loop); None for the closed loop.
        rows: in each request.
        duration_s: how long to measure.
        member: load this member alone.
        url: of the HTTP door, or of several that share the connections, instead of looking them up.
        credentials: what the doors want to see.
        address: of the Ray cluster; the local one when None.

    Raises:
        ClusterError: no such ensemble runs.
        UnavailableError: not one request was answered.
    """
    require("serve", "bench")
    from quorate.deployments.client.load import load_test

    load = load_test.Load(clients, rate, duration_s, rows=rows)
    urls, model = url or urls_of(name, address), member or name
    if inputs is None:
        return load_test.bench(urls, model, load, credentials=credentials)
    with Client(urls, credentials=credentials) as client:
        arrays = read_inputs(inputs, wanted_by(client.metadata(model)["inputs"]), columns)
    return load_test.bench(urls, model, load, credentials=credentials, rows=arrays)
