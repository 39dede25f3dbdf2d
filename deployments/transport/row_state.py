"""What became of one row at one member or inner fusion: what replicas say of it, and what only the engine knows."""

from __future__ import annotations

from enum import IntEnum


class RowState(IntEnum):
    """A replica gives one of the first four with each row of its answer (``LAST_OF_REPLICA``).

    A row inherits the state of what its member reads: a member behind a dead one is missing for that reason.
    """

    OK = 0
    ERROR = 1
    NONFINITE = 2
    SHAPE = 3
    DEADLINE = 4
    DEAD = 5
    SHED = 6
    UNASKED = 7  # a gate or a cascade answered without it
    QUARANTINED = 8  # the member is not sent it: replicas died that had it

    @property
    def reason(self) -> str:
        """The word in an answer's ``members_missing``."""
        return self.name.lower()

    @classmethod
    def of(cls, reason: str) -> RowState:
        """The state of all rows of a call that failed as a whole for this reason."""
        return cls[reason.upper()]


LAST_OF_REPLICA = int(RowState.SHAPE)
