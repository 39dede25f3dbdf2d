"""How often requests may be sent again: retries are a share of what is asked, so that they never carry an outage on.

As Finagle's RetryBudget has it (a share, and a few a second for clients that ask little), kept as a bucket of tokens as
in gRPC's retry throttling (proposal A6).
"""

from __future__ import annotations

import threading
import time

# What clients that ask little may try again each second, and how many seconds of that can be saved up.
RETRIES_PER_S, SAVED_S = 10.0, 10.0


class RetryBudget:
    """One client's; threads may share it."""

    def __init__(self, share: float = 0.2):
        """Args:
        share: of the requests that may be sent again, beside ``RETRIES_PER_S``.
        """
        self._share, self._most = share, RETRIES_PER_S * SAVED_S
        self._left, self._since = self._most, time.monotonic()
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A request is made."""
        with self._lock:
            self._left = min(self._left + self._share, self._most)

    def take(self, now: float) -> bool:
        """Whether a request may be sent again now, which is counted."""
        with self._lock:
            earned = max(now - self._since, 0.0) * RETRIES_PER_S
            self._left, self._since = min(self._left + earned, self._most), max(now, self._since)
            if self._left < 1:
                return False
            self._left -= 1
            return True
