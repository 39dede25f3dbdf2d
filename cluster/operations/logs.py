"""What members of an ensemble have printed, warned of and failed with, also a day after they have ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from quorate.cluster.local.connection import connected, is_jobs_address, nothing_runs
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import ClusterError
from quorate.deployments.logs.files import SHARED, ReplicaLog, forget_old, kept_members, read_logs

if TYPE_CHECKING:
    from collections.abc import Iterable

LINES = 200


@dataclass(frozen=True, repr=False)
class Logs(Displayed):
    """The last lines of each replica, the one that wrote last at the end.

    Attributes:
        silent: nodes that did not answer, and may have more.
    """

    replicas: tuple[ReplicaLog, ...]
    silent: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {"replicas": [asdict(replica) for replica in self.replicas], "silent": list(self.silent)}

    def tables(self) -> Sequence[Table]:
        shown = [Table(title=_title(replica), lines=replica.text.splitlines()) for replica in self.replicas]
        return [*shown, Table(lines=[f"{node} did not answer, and may have more" for node in self.silent])]


def logs(name: str, member: str | None = None, *, lines: int = LINES, address: str | None = None) -> Logs:
    """What members wrote: prints, warnings, tracebacks of loading and of requests (the first of a kind, then one a
    minute). Files on the nodes that they ran on hold it, also for a day after they have ended.

    Args:
        name: of the ensemble.
        member: all when None.
        lines: of each replica at most, the last ones.
        address: of the Ray cluster; the local one when None. Where that does not run, what is kept of it here is read.

    Raises:
        ClusterError: there is no such cluster, or nothing is kept.
    """
    if is_jobs_address(address):
        from quorate.cluster.jobs.call import call_in_job

        told = call_in_job(address, "logs", {"name": name, "member": member, "lines": lines})
        return Logs(tuple(ReplicaLog(**replica) for replica in told["replicas"]), tuple(told["silent"]))
    forget_old()
    ensembles = (name, SHARED) if member is not None else (name,)
    if nothing_runs(address):
        found, silent, kept = read_logs(ensembles, member), list[str](), kept_members()
    else:
        with connected(address):
            from quorate.deployments.control.member_logs import kept_on_nodes, logs_on_nodes

            found, silent = logs_on_nodes(ensembles, member)
            kept = [] if found else kept_on_nodes()
    if not found:
        asked = name if member is None else f"{name} {member}"
        raise ClusterError(f"no log of {asked} is kept here (kept: {_names(kept)}); logs end a day after their members")
    return Logs(tuple(_last(log, lines) for log in found), tuple(silent))


def _last(log: ReplicaLog, lines: int) -> ReplicaLog:
    text = "\n".join(log.text.splitlines()[-lines:])
    return ReplicaLog(log.ensemble, log.member, log.replica, text, log.written_at, log.node)


def _title(log: ReplicaLog) -> str:
    place = f" on {log.node}" if log.node else ""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(log.written_at))
    return f"==> {log.ensemble} {log.member}, replica {log.replica}{place}, written {at}"


def _names(kept: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{ensemble} {member}" for ensemble, member in kept) or "none"
