"""Latencies of all requests in little room: counts in bins that grow by 2 %, which can be added up over replicas."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GROWTH = 1.02
_LOG_GROWTH = math.log(_GROWTH)
_LEAST_S = 1e-6


class LatencyHistogram:
    """Bin i holds latencies above 1.02^(i-1) seconds, up to 1.02^i.

    Attributes:
        counts: by bin, of those that are not empty.
    """

    def __init__(self, counts: Mapping[int, int] | None = None):
        self.counts = Counter(counts or {})

    @classmethod
    def of(cls, latencies_s: Iterable[float]) -> LatencyHistogram:
        """Of these latencies."""
        found = cls()
        for seconds in latencies_s:
            found.add(seconds)
        return found

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __add__(self, other: LatencyHistogram) -> LatencyHistogram:
        return LatencyHistogram(self.counts + other.counts)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[math.ceil(math.log(max(seconds, _LEAST_S)) / _LOG_GROWTH)] += 1

    def up_to(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The upper ends of its bins in seconds, ascending, and how many latencies are not above each."""
        bins = np.array(sorted(self.counts), dtype=np.int64)
        return _GROWTH ** bins.astype(np.float64), np.cumsum([self.counts[int(bin)] for bin in bins], dtype=np.int64)

    def median_s(self) -> float:
        """Within 1 %; NaN where there is none."""
        ends, counts = self.up_to()
        if not len(ends):
            return float("nan")
        return float(ends[np.searchsorted(counts, counts[-1] / 2)] / math.sqrt(_GROWTH))
