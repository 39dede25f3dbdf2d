"""What became of a row at one member or inner fusion, as the engine keeps it."""

from __future__ import annotations

from enum import IntEnum


class RowState(IntEnum):
    """The first four are what a replica says of a row (``framing.RowStatus``); the others only the engine knows.

    A row inherits the state of what its member reads: a member behind a dead one is missing for that reason.
    """

    OK = 0
    ERROR = 1
    NONFINITE = 2
    SHAPE = 3
    DEADLINE = 4
    DEAD = 5
    SHED = 6
    UNASKED = 7  # nobody wanted it: a gate or a cascade went without

    @property
    def reason(self) -> str:
        """The word in an answer's ``members_missing``."""
        return self.name.lower()


def state_of(reason: str) -> RowState:
    """The state that a whole reply's reason puts its rows in."""
    return RowState[reason.upper()]
