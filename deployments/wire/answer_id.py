"""How an answer is called: unique over replicas and restarts, and it says by itself whether a record was to be kept.

``REPLICA-NUMBER`` of an answer of which nothing was kept, ``REPLICA-NUMBER-SECONDS-ROWS`` of one that was recorded:
the replica's own random name, the number of its answer, when that was given (since 1970), and how many rows it has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# The parameter of an answer; where answers to rows that follow each other were joined, several with commas between.
ANSWER_ID = "answer_id"
_FORM = re.compile(r"([0-9a-f]{12})-([0-9]{1,18})(?:-([0-9]{1,12})-([0-9]{1,9}))?", re.ASCII)


@dataclass(frozen=True)
class AnswerId:
    """What an id says.

    Attributes:
        replica: that gave the answer, since it started.
        at_s: when, in seconds since 1970; 0 where nothing was to be recorded.
        rows: how many the answer has; 0 where nothing was to be recorded.
    """

    replica: str
    number: int
    at_s: int = 0
    rows: int = 0

    @property
    def recorded(self) -> bool:
        """Whether the answer was to be recorded."""
        return self.rows > 0


def parse_answer_id(text: str) -> AnswerId | None:
    """What an id says; None for what is none."""
    found = _FORM.fullmatch(text)
    return None if found is None else AnswerId(found[1], int(found[2]), int(found[3] or 0), int(found[4] or 0))


def rows_of(ids: str) -> list[tuple[str, int]]:
    """Of joined answers the id and the number in it of each row; answers that were not recorded have none.

    Args:
        ids: as an answer's parameter has them.
    """
    found = [(text, parse_answer_id(text)) for text in ids.split(",")]
    return [(text, row) for text, known in found if known is not None for row in range(known.rows)]
