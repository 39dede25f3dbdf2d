"""Failures of a member on requests: the first of each kind whole, and then one a minute, counted."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from quorate.deployments.member_traceback import own_place

AGAIN_S = 60.0
# A model may say something else each time: kinds beyond are one.
_MOST_KINDS = 64


@dataclass
class _Kind:
    written_at: float
    unwritten: int = 0


class Failures:
    """Writes tracebacks into a log.

    Attributes:
        count: how many forward passes failed: several of a batch, as the rows that fail are looked for.
        last: the last one, in a line, with file and line of the member's own code; empty for none.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._write, self._clock = write, clock
        self._kinds: dict[str, _Kind] = {}
        self._lock = threading.Lock()
        self.count, self.last = 0, ""

    def note(self, error: Exception) -> None:
        """A forward pass failed, on whatever thread."""
        with self._lock:
            self._note(error)

    def _note(self, error: Exception) -> None:
        place = own_place(error)
        self.count += 1
        self.last = f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")
        key = f"{type(error).__name__} {place or error}"
        if key not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            key = ""
        kind, now = self._kinds.get(key), self._clock()
        if kind is not None and now - kind.written_at < AGAIN_S:
            kind.unwritten += 1
            return
        again = f" ({kind.unwritten} more like it since the one above)" if kind is not None else ""
        self._kinds[key] = _Kind(now)
        self._write(f"failed on a request{again}\n{''.join(traceback.format_exception(error))}")
