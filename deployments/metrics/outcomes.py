"""What becomes of requests: which outcome one counts as, and how those of a revision went, to compare two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from quorate.deployments.errors import DeadlineError, OverloadedError, RequestError
from quorate.deployments.metrics.latency_histogram import LatencyHistogram
from quorate.fusion.errors import QuorateError, QuorumError

# Which outcome an error counts as; any other is an "error". DeadlineError is a QuorumError, so it comes first.
_OUTCOMES: dict[type[QuorateError], str] = {
    OverloadedError: "overloaded",
    DeadlineError: "deadline",
    RequestError: "invalid",
    QuorumError: "quorum",
}


@dataclass
class Outcomes:
    """Requests that were answered, in full or in part, and those that ended in an error which is not the client's.

    Attributes:
        latencies: of the answers.
    """

    answers: int = 0
    degraded: int = 0
    errors: int = 0
    latencies: LatencyHistogram = field(default_factory=LatencyHistogram)

    def add(self, outcome: str, seconds: float) -> None:
        """Count one request by its outcome in the metrics; what is the client's doing does not count."""
        if outcome in ("full", "degraded"):
            self.answers += 1
            self.degraded += outcome == "degraded"
            self.latencies.add(seconds)
        elif outcome in ("deadline", "quorum", "error"):
            self.errors += 1

    def to_dict(self) -> dict[str, Any]:
        """In plain types, to be added up over replicas."""
        return {
            "answers": self.answers,
            "degraded": self.degraded,
            "errors": self.errors,
            "latencies": dict(self.latencies.counts),
        }


def outcome_of(error: QuorateError) -> str:
    """What a request that ended in this error counts as."""
    return next((outcome for kind, outcome in _OUTCOMES.items() if isinstance(error, kind)), "error")
