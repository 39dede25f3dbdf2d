"""The time a sweep may take: rounds of members and structures while there is enough for another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Nothing is known yet of how long the rest of the first round takes; later it takes what it took, and a bit.
_FIRST_SHARE, _SAFETY = 0.6, 1.25
# So many trainings share the time there is; of all time about this share goes to them.
_TRAININGS, _MEMBERS_SHARE = 6, 0.8
# Heads and trunks are worth less than members.
_HEADS_SHARE = 0.08
# The picks and the report, and what a training's last epoch may take longer than planned.
_END_SHARE, _END_S = 0.03, 4.0


class Budget:
    """Rounds within a time, or one round without.

    A round is members, then the rest: structures over all members that there are so far. The last one's members train
    until there is just time for the rest.
    """

    def __init__(self, time_s: float | None = None, clock: Callable[[], float] = time.monotonic):
        """
        Args:
            time_s: from now on; as long as it takes when None.
            clock: seconds.
        """
        self._clock = clock
        self._total_s = time_s
        self._until = None if time_s is None else clock() + time_s
        self._rest_s: float | None = None

    def left_s(self) -> float:
        """Infinite without a limit."""
        return math.inf if self._until is None else self._until - self._clock()

    def rounds(self) -> Iterator[int]:
        """From 1 on: one without a limit; with it as many as have time for members and the rest."""
        number = 1
        yield number
        while self._total_s is not None and self._rest_s is not None and self.members_s() >= self._least_s():
            number += 1
            yield number

    def members_s(self) -> float:
        """Seconds that this round's members may take."""
        if self._rest_s is None:
            return _FIRST_SHARE * self.left_s()
        return self.structures_s() - _SAFETY * self._rest_s

    def structures_s(self) -> float:
        """Seconds until the last structure must have been tried."""
        return self.left_s() - _END_S - _END_SHARE * (self._total_s or 0.0)

    def heads_s(self) -> float:
        """Seconds that members which read members may take in a round."""
        return min(self.structures_s(), _HEADS_SHARE * (math.inf if self._total_s is None else self._total_s))

    def training_s(self, workers: int) -> float:
        """Seconds that one member's training may take, the same in all rounds; infinite without a limit."""
        return math.inf if self._total_s is None else _MEMBERS_SHARE * self._total_s * workers / _TRAININGS

    @contextmanager
    def rest(self) -> Iterator[None]:
        """What follows a round's members; how long it takes is how long the next round's will."""
        started = self._clock()
        yield
        self._rest_s = self._clock() - started

    def _least_s(self) -> float:
        """That a round of members is worth."""
        return max(_END_S, _END_SHARE * (self._total_s or 0.0))
