"""Requests that wait for a batch: those of higher priority first, then the oldest, up to a limit of rows and bytes."""

# B rows

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator

from quorate.deployments.engine.requests.request import PRIORITY_LEVELS, Request
from quorate.deployments.errors import OverloadedError

# The heap of deadlines is cleared of requests that have left when there are this many more of them than of others.
_STALE = 64


class RequestQueue:
    """Requests in the order in which they are due.

    Attributes:
        rows: of all that wait.
        nbytes: of their inputs.
        waiting: they, by number.
    """

    def __init__(self, max_rows: int, max_bytes: int = 1 << 29):
        self.rows = self.nbytes = 0
        self._max_rows, self._max_bytes = max_rows, max_bytes
        # The time of arrival and the request's number, by request.
        self._levels: tuple[OrderedDict[Request, tuple[float, int]], ...] = tuple(
            OrderedDict() for _ in range(PRIORITY_LEVELS)
        )
        self._numbers = itertools.count()
        self.waiting: dict[int, Request] = {}
        self._deadlines: list[tuple[float, int]] = []  # a heap, also of requests that wait no more

    def __iter__(self) -> Iterator[Request]:
        for level in self._levels:
            yield from level

    def __bool__(self) -> bool:
        return bool(self.waiting)

    def add(self, request: Request, now: float) -> list[Request]:
        """Let a request wait. A full queue sheds requests of lower priority for it: they are returned.

        A request that is larger than the limit waits where nobody else does.

        Raises:
            OverloadedError: they are too few, and it is this request that goes.
        """
        rows, nbytes = self.rows + request.rows - self._max_rows, self.nbytes + request.nbytes - self._max_bytes
        shed = self._make_room(request, rows, nbytes) if (rows > 0 or nbytes > 0) and self.waiting else []
        number = next(self._numbers)
        self._levels[request.priority - 1][request] = now, number
        self.waiting[number] = request
        heapq.heappush(self._deadlines, (request.deadline, number))
        self.rows += request.rows
        self.nbytes += request.nbytes
        return shed

    def remove(self, request: Request) -> bool:
        """Take a request out, if it is there."""
        found = self._levels[request.priority - 1].pop(request, None)
        if found is None:
            return False
        self._leave(request, found[1])
        return True

    def take(self, max_rows: int, joins: Callable[[Request, Request], bool]) -> tuple[list[Request], float]:
        """Take out the request that is due, and those behind it that can travel with it, up to the first that cannot.

        Args:
            max_rows: of all of them together; the first may have more.
            joins: whether a request can travel with the first.

        Returns:
            The requests, and when the first of them arrived.
        """
        for level in self._levels:
            if level:
                break
        first, (arrived, number) = level.popitem(last=False)
        self._leave(first, number)
        chosen, rows = [first], first.rows
        if not self.waiting:
            return chosen, arrived
        for request in self:
            if rows + request.rows > max_rows or not joins(request, first):
                break
            chosen.append(request)
            rows += request.rows
        for request in chosen[1:]:
            self.remove(request)
        return chosen, arrived

    def take_expired(self, now: float) -> list[Request]:
        """Take out those whose deadline has passed."""
        expired = []
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            request = self.waiting[self._deadlines[0][1]]
            self.remove(request)
            expired.append(request)
        return expired

    def next_deadline(self) -> float | None:
        """The earliest of all deadlines; None where nobody waits."""
        while self._deadlines and self._deadlines[0][1] not in self.waiting:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def take_all(self) -> list[Request]:
        """Take out everybody."""
        waiting = list(self)
        for request in waiting:
            self.remove(request)
        return waiting

    def _leave(self, request: Request, number: int) -> None:
        del self.waiting[number]
        self.rows -= request.rows
        self.nbytes -= request.nbytes
        if len(self._deadlines) > 2 * len(self.waiting) + _STALE:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self.waiting]
            heapq.heapify(self._deadlines)

    def _make_room(self, request: Request, rows: int, nbytes: int) -> list[Request]:
        shed = []
        for other in self._below(request.priority):
            if rows <= 0 and nbytes <= 0:
                break
            shed.append(other)
            rows, nbytes = rows - other.rows, nbytes - other.nbytes
        if rows > 0 or nbytes > 0:
            raise self.overloaded()
        for other in shed:
            self.remove(other)
        return shed

    def overloaded(self) -> OverloadedError:
        """The error for a request that is shed: it tells of the limit that is nearer."""
        if self.nbytes / self._max_bytes > self.rows / self._max_rows:
            return OverloadedError("the queue, in bytes,", self._max_bytes, 1.0)
        return OverloadedError("the queue", self._max_rows, 1.0)

    def _below(self, priority: int) -> Iterator[Request]:
        """Those of lower priority, in the order in which they are shed: the lowest first, and of these the newest."""
        for level in reversed(self._levels[priority:]):
            yield from reversed(level)
