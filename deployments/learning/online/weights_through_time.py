"""One output's weights through time, to be drawn: bounded, however many labels come."""

# M members, N labels

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
POINTS = 200
# What is drawn needs no more places, and all points are written each time that something is learned.
_PLACES = 4


class WeightsThroughTime:
    """Weights at equal distances in labels, which double when there are more than ``POINTS``; and the newest."""

    def __init__(self, first: Floats):
        """Args:
        first: (M,) before any label.
        """
        self._first, self._labels, self._every = first, 0, 1
        self._points: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}

    def add(self, came_us: NDArray[np.int64], after: Floats) -> None:
        """N more labels.

        Args:
            came_us: (N,) when they came, one at least.
            after: (N, M) the weights after each.
        """
        if not self._points:
            self._points = [_point(0, came_us[0], self._first)]
        start, self._labels = self._labels, self._labels + len(came_us)
        while self._labels // self._every >= POINTS:
            self._every *= 2
        self._points = [one for one in self._points if one["labels"] % self._every == 0]
        next_at = (start // self._every + 1) * self._every
        for at in range(next_at, self._labels + 1, self._every):
            self._points.append(_point(at, came_us[at - start - 1], after[at - start - 1]))
        self._last = _point(self._labels, came_us[-1], after[-1])

    def points(self) -> list[dict[str, Any]]:
        """In JSON's types, as ``History.to_dict`` gives them: ``labels`` so far, ``time_us``, ``weights``."""
        missing = self._points and self._points[-1]["labels"] < self._labels
        return [*self._points, self._last] if missing else self._points


def _point(labels: int, time_us: np.int64, weights: Floats) -> dict[str, Any]:
    return {"labels": labels, "time_us": int(time_us), "weights": weights.round(_PLACES).tolist()}
