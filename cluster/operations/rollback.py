"""Go back to the revision before the live one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quorate.cluster.local.connection import connected, is_jobs_address
from quorate.deployments.display import Displayed, Table


@dataclass(frozen=True, repr=False)
class RolledBack(Displayed):
    """What answers again."""

    name: str
    revision: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        return [Table(lines=[f"{self.name} answers with revision {self.revision} again"])]


def rollback(name: str, *, address: str | None = None) -> RolledBack:
    """Publish the revision before the live one, while requests run; a second call goes back further.

    Args:
        name: of the ensemble.
        address: of the Ray cluster; the local one when None.

    Raises:
        ClusterError: there is no such cluster, or no earlier revision.
        DeployError: the earlier revision's members could not be started again.
    """
    if is_jobs_address(address):
        from quorate.cluster.jobs.call import call_in_job

        return RolledBack(**call_in_job(address, "rollback", {"name": name}))
    with connected(address):
        from quorate.deployments.control import deploy as control

        return RolledBack(name, control.rollback(name).revision)
