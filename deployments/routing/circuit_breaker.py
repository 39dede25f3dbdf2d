"""Which replicas are left out: after failures in a row a replica gets no calls for a while, twice as long each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

FAILURES_TO_LEAVE_OUT = 5
LEFT_OUT_S = 1.0
LEFT_OUT_MAX_S = 30.0


class Replica(Hashable, Protocol):
    """A replica as the circuit breaker sees it; it counts ``failures`` there, the last at ``failed_at``."""

    failures: int
    failed_at: float
    leaving: bool
    closed: bool


R = TypeVar("R", bound=Replica)


class CircuitBreaker(Generic[R]):
    """The replicas of one member that are left out.

    Attributes:
        left_out: until when (monotonic time), by replica.
        reason: of the failure that had the last one left out.
        pauses_s: how long the last pause was, of those that are left out and those that have not worked since.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.left_out: dict[R, float] = {}
        self.reason = "dead"
        self._clock = clock
        self.pauses_s: dict[R, float] = {}

    def failed(self, replica: R, reason: str) -> None:
        """Count a failure; the fifth in a row opens the circuit."""
        now = self._clock()
        replica.failures += 1
        replica.failed_at = now
        if replica.failures >= FAILURES_TO_LEAVE_OUT and replica not in self.left_out and not replica.closed:
            self.left_out[replica] = now + self._next_pause_s(replica)
            self.reason = reason

    def succeeded(self, replica: R) -> None:
        """A success closes the circuit."""
        replica.failures = 0
        if replica in self.pauses_s:
            self.forget(replica)

    def due(self) -> R | None:
        """A replica that has been left out long enough to be tried again; each try is followed by a longer pause."""
        now = self._clock()
        for replica, until in self.left_out.items():
            if until <= now and not replica.leaving:
                self.left_out[replica] = now + self._next_pause_s(replica)
                return replica
        return None

    def due_s(self) -> float:
        """In how many seconds the first of those left out is tried again."""
        return min(self.left_out.values()) - self._clock()

    def forget(self, replica: R) -> None:
        """Know nothing bad of a replica, because it works again or is gone."""
        self.left_out.pop(replica, None)
        self.pauses_s.pop(replica, None)

    def _next_pause_s(self, replica: R) -> float:
        pause_s = min(2 * self.pauses_s.get(replica, LEFT_OUT_S / 2), LEFT_OUT_MAX_S)
        self.pauses_s[replica] = pause_s
        return pause_s
