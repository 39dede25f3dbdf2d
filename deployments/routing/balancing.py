"""Which replica is asked: the one with the fewest rows under way."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol, TypeVar

from quorate.deployments.routing.limits import Limits

# How much a failure counts against a replica, and for how long: one that failed is avoided while another is there, but
# not for ever on account of one failure.
FAILURE_LOAD_ROWS = 256
FAILURE_COUNTS_S = 1.0

# Why no replica was chosen.
DEAD, SHED, LEFT_OUT = "dead", "shed", "left out"


class Candidate(Protocol):
    """A replica as this choice sees it.

    Attributes:
        ready: it takes calls.
        leaving: but only those that it has.
        outstanding_rows: of calls that it has not answered yet.
        outstanding_bytes: of these calls.
        failures: calls that failed in a row, the last of them at ``failed_at`` (monotonic time).
    """

    ready: bool
    leaving: bool
    outstanding_rows: int
    outstanding_bytes: int
    failures: int
    failed_at: float


R = TypeVar("R", bound=Candidate)


def choose(
    replicas: Iterable[R], left_out: Collection[R], tried: Collection[R], limits: Limits, now: float
) -> tuple[R | None, str]:
    """The least loaded replica that takes calls, or None and why: DEAD, SHED or LEFT_OUT.

    Args:
        left_out: not to be asked, because they failed.
        tried: not to be asked, because they have this call already.
        now: monotonic time.
    """
    best, least, ready, full = None, 0, False, False
    for replica in replicas:
        if not replica.ready or replica.leaving:
            continue
        ready = True
        if replica in tried or replica in left_out:
            continue
        load = replica.outstanding_rows
        if load >= limits.rows or replica.outstanding_bytes >= limits.nbytes:
            full = True
            continue
        if replica.failures and now - replica.failed_at < FAILURE_COUNTS_S:
            load += FAILURE_LOAD_ROWS * replica.failures
        if best is None or load < least:
            best, least = replica, load
    if best is not None:
        return best, ""
    return None, SHED if full else LEFT_OUT if ready else DEAD
