"""Load a running ensemble and measure latency and throughput."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quorate.cluster.operations.query import urls_of
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
    duration_s: float = 10.0,
    member: str | None = None,
    url: str | Sequence[str] | None = None,
    credentials: Credentials | None = None,
    address: str | None = None,
) -> BenchResult:
    """Ask a running ensemble with random valid input.

    Args:
        name: of the ensemble.
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
    from quorate.deployments.client import load_test

    load = load_test.Load(clients, rate, duration_s, rows=rows)
    return load_test.bench(url or urls_of(name, address), member or name, load, credentials=credentials)
