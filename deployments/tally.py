"""How one model's requests went since the replica started."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Tally:
    """Counts and times of requests.

    Attributes:
        rows: of the requests that succeeded.
        last_ms: when the last one succeeded, in milliseconds since 1970.
    """

    rows: int = 0
    succeeded: int = 0
    succeeded_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    last_ms: int = 0

    def succeed(self, rows: int, ns: int) -> None:
        self.rows += rows
        self.succeeded += 1
        self.succeeded_ns += ns
        self.last_ms = time.time_ns() // 1_000_000

    def fail(self, ns: int) -> None:
        self.failed += 1
        self.failed_ns += ns
