"""Calls back when times come, with one timer of the event loop for all of them: most are not waited for until then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """A time for each of many keys. Make and use it on one event loop."""

    def __init__(self, on_due: Callable[[K], None]):
        """Args:
        on_due: called with each key whose time has come; it is forgotten before.
        """
        self._on_due, self._loop = on_due, asyncio.get_running_loop()
        self._due: dict[K, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0

    def set(self, key: K, at: float) -> None:
        """Call back at this (monotonic) time, and at no other that was set for the key."""
        self._due[key] = at
        if self._timer is None or at < self._rings_at:
            self._arm(at)

    def drop(self, key: K) -> None:
        """Do not call back for a key; nothing happens where there is no such."""
        self._due.pop(key, None)

    def close(self) -> None:
        """Call back for none."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = at
        self._timer = self._loop.call_later(max(at - time.monotonic(), 0.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = time.monotonic()
        due = [key for key, at in self._due.items() if at <= now]
        try:
            for key in due:
                if self._due.get(key, now + 1.0) <= now:  # else one before it has had it dropped, or set anew
                    del self._due[key]
                    self._on_due(key)
        finally:
            if self._due:
                self._arm(min(self._due.values()))
