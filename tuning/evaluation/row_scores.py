"""What drawing reads of answers: three numbers a row, however many classes there are."""

# M members, N rows, C classes, K answers

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.scoring import Floats, true_class


@dataclass(frozen=True)
class Answers:
    """Of one answer to each of N rows, or of several.

    Attributes:
        right: (..., N) probability of the true class, at least ``LEAST_PROBABILITY``.
        decided: (..., N) the class with the highest probability.
        confidence: (..., N) that probability.
    """

    right: Floats
    decided: NDArray[np.int32]
    confidence: NDArray[np.float32]

    def __getitem__(self, which: int | slice) -> Answers:
        return Answers(self.right[which], self.decided[which], self.confidence[which])

    def __iter__(self) -> Iterator[Answers]:
        return (self[number] for number in range(len(self.right)))


def answers(probs: Sequence[NDArray[Any]] | NDArray[Any], labels: NDArray[np.int64]) -> Answers:
    """Of (K, N, C) probabilities.

    Raises:
        PredictionError: numbers that are no probabilities.
    """
    right = np.stack([true_class(one[None], labels)[0] for one in probs])
    decided = np.stack([one.argmax(axis=1) for one in probs]).astype(np.int32)
    return Answers(right, decided, np.stack([one.max(axis=1) for one in probs]).astype(np.float32))
