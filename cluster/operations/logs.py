"""What members of an ensemble have printed, warned of and failed with, also a day after they have ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from quorate.cluster.local.connection import connected, is_jobs_address, nothing_runs
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import ClusterError
from quorate.deployments.logs.entries import written_since
from quorate.deployments.logs.files import SHARED, ReplicaLog, forget_old, kept_members, read_logs

if TYPE_CHECKING:
    from collections.abc import Iterable

LINES = 200
# How often nodes are looked at for what is new.
EVERY_S = 1.0


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


def logs(
    name: str,
    member: str | None = None,
    *,
    lines: int = LINES,
    since_s: float | None = None,
    address: str | None = None,
) -> Logs:
    """What members wrote: prints, warnings, tracebacks of loading and of requests (the first of a kind, then one a
    minute). Files on the nodes that they ran on hold it, also for a day after they have ended.

    Args:
        name: of the ensemble.
        member: all when None.
        lines: of each replica at most, the last ones.
        since_s: only what was written in the last so many seconds.
        address: of the Ray cluster; the local one when None. Where that does not run, what is kept of it here is read.

    Raises:
        ClusterError: there is no such cluster, or nothing is kept.
    """
    if is_jobs_address(address):
        from quorate.cluster.jobs.call import call_in_job

        told = call_in_job(address, "logs", {"name": name, "member": member, "lines": lines, "since_s": since_s})
        return Logs(tuple(ReplicaLog(**replica) for replica in told["replicas"]), tuple(told["silent"]))
    forget_old()
    ensembles = _ensembles(name, member)
    if nothing_runs(address):
        found, silent, kept = read_logs(ensembles, member, since_s), list[str](), kept_members()
    else:
        with connected(address):
            from quorate.deployments.control.member_logs import kept_on_nodes, logs_on_nodes

            found, silent = logs_on_nodes(ensembles, member, since_s)
            kept = [] if found else kept_on_nodes()
    if not found:
        _check_kept(name, member, kept)
    return Logs(tuple(_last(log, lines) for log in found), tuple(silent))


def follow_logs(
    name: str,
    member: str | None = None,
    *,
    lines: int = LINES,
    since_s: float | None = None,
    address: str | None = None,
) -> Generator[Logs, None, None]:
    """The same, and then what members write from now on, as it comes and without end: of replicas that start, too.

    Args:
        name, member, lines, since_s, address: as of ``logs``; the first thing that is given is what that gives.

    Raises:
        ClusterError: there is no such cluster, it ends, or nothing is kept.
    """
    if is_jobs_address(address):
        raise ClusterError(f"{address} takes one job after another, and nothing can be followed through it; ask again")
    with connected(address):
        from quorate.deployments.control.member_logs import kept_on_nodes, new_on_nodes

        ensembles, cursors = _ensembles(name, member), dict[Any, Any]()
        found = new_on_nodes(ensembles, member, cursors)
        if not found:
            _check_kept(name, member, kept_on_nodes())
        found = [_since(log, since_s) for log in found]
        while True:
            shown = tuple(_last(log, lines) for log in found if log.text)
            if shown:
                yield Logs(shown)
            time.sleep(EVERY_S)
            found, lines = new_on_nodes(ensembles, member, cursors), sys.maxsize


def _ensembles(name: str, member: str | None) -> tuple[str, ...]:
    return (name, SHARED) if member is not None else (name,)


def _check_kept(name: str, member: str | None, kept: Sequence[tuple[str, str]]) -> None:
    """Refuse what nothing is kept of, now or of any time.

    Raises:
        ClusterError: so it is.
    """
    if not any(one in _ensembles(name, member) and member in (None, other) for one, other in kept):
        asked = name if member is None else f"{name} {member}"
        raise ClusterError(f"no log of {asked} is kept here (kept: {_names(kept)}); logs end a day after their members")


def _since(log: ReplicaLog, since_s: float | None) -> ReplicaLog:
    return log if since_s is None else replace(log, text=written_since(log.text, time.time() - since_s))


def _last(log: ReplicaLog, lines: int) -> ReplicaLog:
    return replace(log, text="\n".join(log.text.splitlines()[-lines:]))


def _title(log: ReplicaLog) -> str:
    place = f" on {log.node}" if log.node else ""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(log.written_at))
    return f"==> {log.ensemble} {log.member}, replica {log.replica}{place}, written {at}"


def _names(kept: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{ensemble} {member}" for ensemble, member in kept) or "none"
