"""What goes from a record: answers and labels that are too old, and the oldest answers where it holds too much."""

from __future__ import annotations

import time

from quorate.deployments.learning.folder import ANSWERS, LABELS, RecordFolder

LOOK_S = 30.0


class Expiry:
    """Looks after one record; several replicas may look after the same.

    Attributes:
        held: the bytes that it holds, and when its oldest file was last written, in seconds since 1970; None before the
            first look, and where there is none.
    """

    def __init__(self, folder: RecordFolder, keep_for_s: float, max_bytes: int):
        self._folder, self._keep_for_s, self._max_bytes = folder, keep_for_s, max_bytes
        self._looked_at = -LOOK_S
        self.held: tuple[int, float] | None = None

    def look(self) -> None:
        """Delete what is to go, now and then.

        A file is as old as what was written to it last: then all in it is old.

        Raises:
            OSError: the store does not say what it holds.
        """
        if time.monotonic() - self._looked_at < LOOK_S:
            return
        self._looked_at = time.monotonic()
        answers, labels = self._folder.list(ANSWERS), self._folder.list(LABELS)
        oldest_s = time.time() - self._keep_for_s
        for file in (*answers, *labels):
            if file.changed_s < oldest_s:
                self._folder.delete(file.path)
        answers = sorted((f for f in answers if f.changed_s >= oldest_s), key=lambda file: file.changed_s)
        held = sum(file.nbytes for file in (*answers, *labels) if file.changed_s >= oldest_s)
        gone = 0
        for file in answers[:-1]:  # the newest is being written
            if held <= self._max_bytes:
                break
            self._folder.delete(file.path)
            held -= file.nbytes
            gone += 1
        there = [file.changed_s for file in (*answers[gone:], *labels) if file.changed_s >= oldest_s]
        self.held = (held, min(there)) if there else None
