"""Load a running ensemble and measure latency and throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from quorate.cluster.arguments.row_files import read_arrays
from quorate.cluster.operations.query import urls_of
from quorate.deployments.client.client import Client
from quorate.deployments.client.inputs import as_input
from quorate.deployments.security.credentials import Credentials
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.deployments.client.load_test import BenchResult


def bench(
    name: str,
    *,
    clients: int = 8,
    rate: float | None = None,
    rows: int = 1,
    inputs: str | Path | Mapping[str, ArrayLike] | None = None,
    duration_s: float = 10.0,
    member: str | None = None,
    url: str | Sequence[str] | None = None,
    credentials: Credentials | None = None,
    address: str | None = None,
) -> BenchResult:
    """Ask a running ensemble with rows of one's own, or with random valid input.

    Args:
        name: of the ensemble.
        clients: connections; each waits for its answer.
        rate: requests a second, sent on time whatever comes back (open loop); None for the closed loop.
        rows: in each request.
        inputs: what to ask about, a file as ``query`` reads it or arrays by input; random where there is none.
        duration_s: how long to measure.
        member: load this member alone.
        url: of the HTTP door, or of several that share the connections, instead of looking them up.
        credentials: what the doors want to see.
        address: of the Ray cluster; the local one when None.

    Raises:
        ClusterError: no such ensemble runs.
        RequestError: the file cannot be read, or does not hold the model's inputs.
        UnavailableError: not one request was answered.
    """
    require("serve", "bench")
    from quorate.deployments.client import load_test

    model, urls = member or name, url or urls_of(name, address)
    given = None
    if inputs is not None:
        with Client(urls, credentials=credentials) as client:
            known = client.metadata(model)["inputs"]
        if isinstance(inputs, str | Path):
            given = read_arrays(Path(inputs), known)
        else:
            given = {item["name"]: as_input(inputs[item["name"]], item) for item in known if item["name"] in inputs}
    load = load_test.Load(clients, rate, duration_s, rows=rows)
    return load_test.bench(urls, model, load, credentials=credentials, rows=given)
