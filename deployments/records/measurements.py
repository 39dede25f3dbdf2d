"""What members need, as it was measured when they were deployed: by that they are placed, and it is in the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measured:
    """What one member needs.

    Attributes:
        forward_s: seconds that one row takes.
        model_bytes: that its model keeps in memory.
    """

    forward_s: float
    model_bytes: int


@dataclass(frozen=True)
class Measurements:
    """Of the members that are placed by what they need.

    Attributes:
        hop_s: seconds that a message takes to another process of the same node and back; 0 where nothing was measured.
        members: by name; those that could not be measured are missing.
        jobs: of each the fingerprint of what was measured: of another state of the member nothing is known.
    """

    hop_s: float = 0.0
    members: Mapping[str, Measured] = field(default_factory=dict)
    jobs: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        members = {name: astuple(one) for name, one in self.members.items()}
        return {"hop_s": self.hop_s, "members": members, "jobs": dict(self.jobs)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurements:
        """What ``to_json`` gave."""
        members = {name: Measured(*one) for name, one in data["members"].items()}
        return cls(data["hop_s"], members, data["jobs"])
