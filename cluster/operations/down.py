"""Take ensembles down, and the local cluster with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quorate.cluster.local.connection import connected, is_jobs_address, nothing_runs
from quorate.deployments.display import Displayed, Table


@dataclass(frozen=True, repr=False)
class Stopped(Displayed):
    """What was stopped."""

    stopped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        return [Table(lines=[f"stopped {', '.join(self.stopped)}" if self.stopped else "nothing was running"])]


def down(name: str | None = None, *, address: str | None = None) -> Stopped:
    """Take one ensemble down; without a name all of them, and the local cluster too when no other is named.

    Args:
        name: of the ensemble.
        address: of the Ray cluster; the local one when None.

    Raises:
        ClusterError: there is no such cluster or ensemble.
    """
    if is_jobs_address(address):
        from quorate.cluster.jobs.call import call_in_job

        return Stopped(tuple(call_in_job(address, "down", {"name": name})["stopped"]))
    if nothing_runs(address):
        return Stopped()
    if name is None and address is None:
        from quorate.cluster.local.cluster import stop
        from quorate.cluster.local.state import find

        if found := find():
            stop(found)
            return Stopped(("the local cluster",))
    with connected(address):
        return Stopped(tuple(take_down(name)))


def take_down(name: str | None) -> list[str]:
    """Take one ensemble of the connected cluster down, or all of them; returns their names."""
    from quorate.deployments.control import deploy as control
    from quorate.deployments.control.describe import ensembles

    names = ensembles() if name is None else [name]
    for ensemble in names:
        control.delete(ensemble)
    return names
