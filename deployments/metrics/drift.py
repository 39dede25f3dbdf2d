"""Whether answers and members are what they used to be, without labels: a row in a while is looked at.

What is counted has no reference of its own: Prometheus compares the last hour with the last day.
"""

# M members, C classes

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from quorate.deployments.metrics.counters import Counter, Summary

Array = NDArray[Any]
# At most 50 rows a second, 20 us each: a thousandth of the event loop's time, however many rows there are.
PERIOD_S = 0.02
# With more classes than this there are no counts of classes: a series each.
MAX_CLASSES = 100


class Drift:
    """Counts the classes that are answered, and how far members are from what is answered."""

    def __init__(self, ensemble: str, registry: CollectorRegistry):
        self._ensemble, self._next = ensemble, 0.0
        self._turn = 0
        self._classes = Counter(
            "quorate_sampled_rows", "Rows looked at, by the class answered", ["ensemble", "output", "class"]
        )
        self._deviation = Summary(
            "quorate_member_deviation",
            "How far a member is from the answer: total variation of probabilities, else mean absolute difference",
            ["ensemble", "member"],
        )
        registry.register(self._classes)
        registry.register(self._deviation)

    def know(self, members: Iterable[str]) -> None:
        """Members that exist, whether a row of theirs has been looked at or not."""
        for member in members:
            self._deviation.labels(self._ensemble, member)

    def forget(self, member: str) -> None:
        """A member is gone."""
        self._deviation.remove(self._ensemble, member)

    def row(self, rows: int) -> int | None:
        """Which of so many rows is to be looked at now; None for none, as nearly always under load."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + PERIOD_S
        self._turn += 1  # of batches of one size not always the same row
        return self._turn % rows

    def look(
        self, output: str, classes: Sequence[str] | None, members: Sequence[str], given: Array, present: Array,
        answer: Array,
    ) -> None:  # fmt: skip
        """Count a row.

        Args:
            output: the name of what was asked for.
            classes: C names that exclude each other; None where the answer is something else.
            members: M names.
            given: (M, ...) what they gave for it.
            present: (M,) bool, who did.
            answer: (...) what was answered.
        """
        if classes is not None and answer.shape == (len(classes),) and len(classes) <= MAX_CLASSES:
            self._classes.labels(self._ensemble, output, classes[int(answer.argmax())]).value += 1
        if given.shape != (len(members), *answer.shape):
            return  # features, or a rule that answers something else than members do
        distances = np.abs(given - answer).reshape(len(given), -1)
        far = distances.sum(axis=1) / 2 if classes is not None and answer.ndim == 1 else distances.mean(axis=1)
        for member, distance, there in zip(members, far.tolist(), present.tolist(), strict=True):
            if there and np.isfinite(distance):
                self._deviation.labels(self._ensemble, member).observe(distance)
