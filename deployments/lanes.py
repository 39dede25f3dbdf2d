"""A revision with the members it asks: the live one, a prepared one, or a canary that gets a share of requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quorate.deployments.members import Member
from quorate.deployments.revisions import Revision

# Latencies that are kept of each of two revisions that are compared.
RECENT = 2048


@dataclass
class Watch:
    """How the requests of one revision went, while two are compared."""

    answers: int = 0
    degraded: int = 0
    errors: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, outcome: str, seconds: float) -> None:
        """Count one request by its outcome in the metrics; what is the client's doing does not count."""
        if outcome in ("full", "degraded"):
            self.answers += 1
            self.degraded += outcome == "degraded"
            self.latencies_s.append(seconds)
        elif outcome in ("deadline", "quorum", "error"):
            self.errors += 1

    def words(self) -> dict[str, Any]:
        """In plain types, to be added up over replicas."""
        return {
            "answers": self.answers,
            "degraded": self.degraded,
            "errors": self.errors,
            "latencies_s": list(self.latencies_s),
        }


@dataclass
class Lane:
    """A revision and how its members are reached.

    Attributes:
        apps: by member, what ``members`` is known by.
        share: of the requests that this lane gets, while it is a canary.
    """

    revision: Revision
    apps: Mapping[str, str]
    members: Mapping[str, Member]
    share: float = 0.0
    watch: Watch = field(default_factory=Watch)

    def ready(self) -> dict[str, int]:
        """How many replicas of each member take calls."""
        return {name: member.ready() for name, member in self.members.items()}
