"""Stored predictions of some rows, in splits of their own, read out of those of all rows."""

# M members, N rows of all, n of one split, C classes

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.predictions.store import PredictionStore

Numbers = NDArray[np.intp]


class Predicted(Protocol):
    """What is read of predictions: see ``PredictionStore``."""

    def chunks(self, split: str, members: Sequence[str]) -> Iterator[tuple[slice, list[NDArray[Any]]]]: ...
    def take(self, split: str, members: Sequence[str], rows: Numbers) -> NDArray[Any]: ...
    def row_bytes(self, split: str, members: Sequence[str]) -> int: ...
    def true_class(
        self, split: str, members: Sequence[str], labels: NDArray[np.int64], some: Numbers | None = None
    ) -> NDArray[np.float32]: ...


class SomeRows:
    """Predictions of some of the rows of one split of a store."""

    def __init__(self, store: PredictionStore, split: str, rows: Mapping[str, Numbers]):
        """
        Args:
            rows: by the name of the new split, numbers of its rows in the old one, ascending.
        """
        self._store, self._split, self._rows = store, split, rows

    def chunks(self, split: str, members: Sequence[str]) -> Iterator[tuple[slice, list[NDArray[Any]]]]:
        """As ``PredictionStore.chunks``."""
        rows = self._rows[split]
        for held, probs in self._store.chunks(self._split, members):
            place = slice(*np.searchsorted(rows, (held.start, held.stop)).tolist())
            some = rows[place] - held.start
            yield place, [output[some] for output in probs]

    def take(self, split: str, members: Sequence[str], rows: Numbers) -> NDArray[Any]:
        """As ``PredictionStore.take``."""
        return self._store.take(self._split, members, self._rows[split][rows])

    def row_bytes(self, split: str, members: Sequence[str]) -> int:
        """As ``PredictionStore.row_bytes``."""
        return self._store.row_bytes(self._split, members)

    def true_class(
        self, split: str, members: Sequence[str], labels: NDArray[np.int64], some: Numbers | None = None
    ) -> NDArray[np.float32]:
        """As ``PredictionStore.true_class``; labels (n,) are those of the split."""
        rows = self._rows[split]
        all_labels = np.zeros(int(rows[-1]) + 1 if len(rows) else 0, dtype=labels.dtype)
        all_labels[rows] = labels
        return self._store.true_class(self._split, members, all_labels, rows if some is None else rows[some])
