"""Drift of a running ensemble, as its doors see it together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.cluster.local.connection import connected, is_jobs_address

if TYPE_CHECKING:
    from quorate.deployments.learning.drift.report import DriftReport


def drift(name: str, *, address: str | None = None) -> DriftReport:
    """Say whether members and answers are still what they were, and who is not.

    Args:
        name: the ensemble; its spec has ``drift``.
        address: of the Ray cluster; the local one when None.

    Raises:
        ClusterError: no such ensemble runs.
    """
    from quorate.deployments.learning.drift.report import DriftReport

    if is_jobs_address(address):
        from quorate.cluster.jobs.call import call_in_job

        return DriftReport.from_dict(call_in_job(address, "drift", {"name": name}))
    with connected(address):
        from quorate.deployments.control.drift import drift_of

        return drift_of(name)
