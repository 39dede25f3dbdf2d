"""Wakes up for requests whose deadline passes while they still queue."""

from __future__ import annotations

import asyncio
import time

from quorate.deployments.engine.requests.open_requests import fail
from quorate.deployments.engine.requests.queue import RequestQueue
from quorate.deployments.errors import DeadlineError


class QueueAlarm:
    """Of one queue. Make and use it on one event loop."""

    def __init__(self, queue: RequestQueue):
        self._queue, self._loop = queue, asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0

    def set(self, deadline: float) -> None:
        """Wake up at this (monotonic) time, or before."""
        if self._timer is not None and deadline < self._rings_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._rings_at = deadline
            self._timer = self._loop.call_later(max(deadline - time.monotonic(), 0.0), self._ring)

    def close(self) -> None:
        """Wake up no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        for request in self._queue.take_expired(time.monotonic()):
            fail(request, DeadlineError("a free place in the queue", "none in time"))
        deadline = self._queue.next_deadline()
        if deadline is not None:
            self.set(deadline)
