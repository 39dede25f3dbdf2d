"""When a second replica is asked as well: a call that is later than nearly all recent ones, within a small budget."""

from __future__ import annotations

from collections import deque

import numpy as np

HEDGE_BUDGET = 0.02  # extra calls, as a share of all
HEDGE_WINDOW = 256  # calls that the percentile is taken over
MIN_LATENCIES = 32  # with fewer a percentile says nothing


class Hedge:
    """The calls of one member.

    Attributes:
        percentile: a call later than this percentile of recent ones is late; None for never.
        calls, hedges: how many there were.
    """

    def __init__(self) -> None:
        self.percentile: int | None = None
        self.calls = 0
        self.hedges = 0
        self._latencies_s: deque[float] = deque(maxlen=HEDGE_WINDOW)

    def answered(self, latency_s: float) -> None:
        """Remember how long an answer took."""
        self._latencies_s.append(latency_s)

    def delay_s(self, replicas: int) -> float | None:
        """How late a call must be; None when it is not to be hedged."""
        if self.percentile is None or replicas < 2 or len(self._latencies_s) < MIN_LATENCIES:
            return None
        return float(np.percentile(np.fromiter(self._latencies_s, float), self.percentile))

    def allow(self) -> bool:
        """Spend one extra call, if the budget holds it."""
        if self.hedges + 1 > HEDGE_BUDGET * self.calls:
            return False
        self.hedges += 1
        return True
