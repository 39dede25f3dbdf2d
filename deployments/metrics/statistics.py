"""How one model's requests went since the replica started."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Statistics:
    """Counts and times of requests.

    Attributes:
        rows: of the requests that succeeded.
        last_ms: when the last one succeeded, in milliseconds since 1970.
        queued_ns: of ``succeeded_ns``, waiting.
        input_ns: reading requests off the wire, in ``succeeded_ns`` too.
        output_ns: writing answers, likewise.
    """

    rows: int = 0
    queued_ns: int = 0
    input_ns: int = 0
    output_ns: int = 0
    succeeded: int = 0
    succeeded_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    last_ms: int = 0

    @property
    def infer_ns(self) -> int:
        """What is left of ``succeeded_ns``: members and fusion."""
        return max(self.succeeded_ns - self.queued_ns - self.input_ns - self.output_ns, 0)

    def carry(self, input_ns: int, output_ns: int) -> None:
        """Count what the door did for a request that succeeded."""
        self.input_ns += input_ns
        self.output_ns += output_ns
        self.succeeded_ns += input_ns + output_ns

    def succeed(self, rows: int, ns: int, queued_ns: int = 0) -> None:
        self.rows += rows
        self.succeeded += 1
        self.succeeded_ns += ns
        self.queued_ns += queued_ns
        self.last_ms = time.time_ns() // 1_000_000

    def fail(self, ns: int) -> None:
        self.failed += 1
        self.failed_ns += ns
