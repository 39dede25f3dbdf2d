"""What was lost over the latest answers, in the order in which they were given, however late their labels come."""

# N labels

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class LatestAnswers:
    """The latest answers of those that have labels, and what each lost."""

    def __init__(self, most: int):
        """Args:
        most: so many are remembered.
        """
        self._times = np.full(most, np.iinfo(np.int64).min)  # ascending
        self._sums = np.zeros(most)  # of what each and all later ones lost

    def copy(self) -> LatestAnswers:
        """One that goes on by itself."""
        other = LatestAnswers(0)
        other._times, other._sums = self._times.copy(), self._sums.copy()
        return other

    def add(self, times: NDArray[np.int64], lost: Floats) -> Floats:
        """Take labels, one after another.

        Args:
            times: (N,) when each was answered.
            lost: (N,) what it lost.

        Returns:
            (N,) after each, the most that was lost over any number of the latest answers; 0 where all have won.
        """
        found = np.empty(len(lost))
        for at, (time, loss) in enumerate(zip(times.tolist(), lost.tolist(), strict=True)):
            later = int(self._times.searchsorted(time, side="right"))
            if later:
                self._insert(later - 1, time, loss)
            found[at] = max(0.0, self._sums.max())
        return found

    def _insert(self, place: int, time: int, loss: float) -> None:
        """In place of the oldest, and before those that are later."""
        times, sums = self._times, self._sums
        times[:place], sums[:place] = times[1 : place + 1], sums[1 : place + 1]
        times[place] = time
        sums[place] = sums[place + 1] if place + 1 < len(sums) else 0.0
        sums[: place + 1] += loss
