"""Requests that wait for a batch: those of higher priority first, then the oldest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from quorate.deployments.engine.request import PRIORITY_LEVELS, Request


class Waiting:
    """A mapping from request to the time it arrived, in the order in which they are due."""

    def __init__(self) -> None:
        self._levels: tuple[OrderedDict[Request, float], ...] = tuple(OrderedDict() for _ in range(PRIORITY_LEVELS))

    def __setitem__(self, request: Request, arrived: float) -> None:
        self._levels[request.priority - 1][request] = arrived

    def __delitem__(self, request: Request) -> None:
        del self._levels[request.priority - 1][request]

    def __iter__(self) -> Iterator[Request]:
        for level in self._levels:
            yield from level

    def __bool__(self) -> bool:
        return any(self._levels)

    def below(self, priority: int) -> Iterator[Request]:
        """Those of lower priority, in the order in which they are shed: the lowest first, and of these the newest."""
        for level in reversed(self._levels[priority:]):
            yield from reversed(level)

    def pop(self, request: Request) -> float | None:
        """Take a request out; None if it is not there."""
        return self._levels[request.priority - 1].pop(request, None)

    def pop_first(self) -> tuple[Request, float]:
        """Take out the one that is due."""
        level = next(level for level in self._levels if level)
        return level.popitem(last=False)

    def clear(self) -> None:
        for level in self._levels:
            level.clear()
