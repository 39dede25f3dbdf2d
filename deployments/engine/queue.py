"""Requests that wait for a batch: those of higher priority first, then the oldest, up to a limit of rows."""

# B rows

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from quorate.deployments.engine.request import PRIORITY_LEVELS, Request
from quorate.deployments.errors import OverloadedError


class RequestQueue:
    """Requests in the order in which they are due.

    Attributes:
        rows: of all that wait.
    """

    def __init__(self, max_rows: int):
        self.rows = 0
        self._max_rows = max_rows
        # The time of arrival, by request.
        self._levels: tuple[OrderedDict[Request, float], ...] = tuple(OrderedDict() for _ in range(PRIORITY_LEVELS))

    def __iter__(self) -> Iterator[Request]:
        for level in self._levels:
            yield from level

    def __bool__(self) -> bool:
        return any(self._levels)

    def add(self, request: Request, now: float) -> list[Request]:
        """Let a request wait. A full queue sheds requests of lower priority for it: they are returned.

        A request that is larger than the limit waits where nobody else does.

        Raises:
            OverloadedError: they are too few, and it is this request that goes.
        """
        shed = self._make_room(request) if self.rows + request.rows > self._max_rows and self else []
        self._levels[request.priority - 1][request] = now
        self.rows += request.rows
        return shed

    def remove(self, request: Request) -> bool:
        """Take a request out, if it is there."""
        if self._levels[request.priority - 1].pop(request, None) is None:
            return False
        self.rows -= request.rows
        return True

    def take(self, max_rows: int, joins: Callable[[Request, Request], bool]) -> tuple[list[Request], float]:
        """Take out the request that is due, and those behind it that can travel with it, up to the first that cannot.

        Args:
            max_rows: of all of them together; the first may have more.
            joins: whether a request can travel with the first.

        Returns:
            The requests, and when the first of them arrived.
        """
        level = next(level for level in self._levels if level)
        first, arrived = level.popitem(last=False)
        chosen, rows = [first], first.rows
        for request in self:
            if rows + request.rows > max_rows or not joins(request, first):
                break
            chosen.append(request)
            rows += request.rows
        for request in chosen[1:]:
            del self._levels[request.priority - 1][request]
        self.rows -= rows
        return chosen, arrived

    def take_expired(self, now: float) -> list[Request]:
        """Take out those whose deadline has passed."""
        expired = [request for request in self if request.deadline <= now]
        for request in expired:
            self.remove(request)
        return expired

    def next_deadline(self) -> float | None:
        """The earliest of all deadlines; None where nobody waits."""
        return min((request.deadline for request in self), default=None)

    def take_all(self) -> list[Request]:
        """Take out everybody."""
        waiting = list(self)
        for level in self._levels:
            level.clear()
        self.rows = 0
        return waiting

    def _make_room(self, request: Request) -> list[Request]:
        surplus, shed = self.rows + request.rows - self._max_rows, []
        for other in self._below(request.priority):
            if surplus <= 0:
                break
            shed.append(other)
            surplus -= other.rows
        if surplus > 0:
            raise self.overloaded()
        for other in shed:
            self.remove(other)
        return shed

    def overloaded(self) -> OverloadedError:
        """The error for a request that is shed."""
        return OverloadedError("the queue", self._max_rows, 1.0)

    def _below(self, priority: int) -> Iterator[Request]:
        """Those of lower priority, in the order in which they are shed: the lowest first, and of these the newest."""
        for level in reversed(self._levels[priority:]):
            yield from reversed(level)
