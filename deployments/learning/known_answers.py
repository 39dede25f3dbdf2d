"""Which answers a label may be for: what an id says, and what the record's folder says of its replicas."""

from __future__ import annotations

import time
from collections.abc import Sequence

from quorate.deployments.learning.folder import ANSWERS, LABELS, RecordFolder
from quorate.deployments.wire.answer_id import AnswerId, parse_answer_id

# Answers end in another order than they begin: so many that began earlier may stand in a later file.
LATE_ANSWERS = 4096


def answers_name(replica: str, place: int, first: Sequence[str]) -> str:
    """Name of a file of answers, without its suffix: the replica's, its place, and from which number on they are.

    Args:
        first: the ids that it begins with.
    """
    lowest = min(int(one.split("-")[1]) for one in first)
    return f"{replica}-{place:06d}-{max(lowest - LATE_ANSWERS, 0)}"


class KnownAnswers:
    """What is in a record and what was.

    Attributes:
        replicas: that record, or recorded, here; by each the number of the first answer that is still there.
    """

    def __init__(self, folder: RecordFolder, replica: str, keep_for_s: float):
        self._folder, self._own, self._keep_for_s = folder, replica, keep_for_s
        self.replicas: dict[str, int] = {}

    def look(self) -> None:
        """Look at the folder.

        Raises:
            OSError: the store does not say.
        """
        found = {file.replica: 0 for file in self._folder.list(LABELS)}
        firsts: dict[str, int] = {}
        for file in self._folder.list(ANSWERS):
            first = file.name.partition(".")[0].rpartition("-")[2]
            if first.isdigit():
                firsts[file.replica] = min(int(first), firsts.get(file.replica, int(first)))
        self.replicas = found | firsts

    def knows(self, replica: str) -> bool:
        return replica == self._own or replica in self.replicas

    def refusal(self, text: str, row: int) -> tuple[str, str] | None:
        """Verdict and reason for a label that cannot be taken; None where it can."""
        answer = parse_answer_id(text)
        if answer is None:
            return "unknown", "it is no answer_id"
        if answer.recorded and time.time() - answer.at_s > self._keep_for_s:
            return "expired", "the answer is older than the record keeps any"
        if not self.knows(answer.replica):
            return "unknown", "no replica of this ensemble that records here has given such an answer"
        if not answer.recorded:
            return "unrecorded", "nothing of the answer was recorded"
        if row >= answer.rows:
            return "invalid", f"row {row} of an answer of {answer.rows}; rows count from 0"
        return self._gone(answer)

    def _gone(self, answer: AnswerId) -> tuple[str, str] | None:
        if answer.number < self.replicas.get(answer.replica, 0):
            return "expired", "the answer has made room for later ones"
        return None
