"""What is said of a canary once it has been watched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CanaryReport:
    """How the canary went beside the live revision.

    Attributes:
        share: of the requests that it got.
        error_rates: of the live revision and of the canary.
        median_s: latencies of both.
    """

    share: float
    seconds: float
    answers: int
    error_rates: tuple[float, float]
    median_s: tuple[float, float]
