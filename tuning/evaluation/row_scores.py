"""What judging and drawing read of answers: three numbers a row, however many classes there are.

Predictions larger than memory are gone through once, partition by partition; what is kept of them is this.
"""

# M members, N rows, n rows that every member answered, C classes, K mixtures

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.tuning.predictions.answered_rows import check_usable
from quorate.tuning.predictions.store import PredictionStore
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


@dataclass(frozen=True)
class Gathered:
    """Of a split of a store.

    Attributes:
        members, mixtures: (M, n) and (K, n) answers to the rows that every member answered.
        labels: (n,) their true classes.
        rows: (n,) their numbers among all rows.
    """

    members: Answers
    mixtures: Answers
    labels: NDArray[np.int64]
    rows: NDArray[np.intp]


def answers(probs: Sequence[NDArray[Any]] | NDArray[Any], labels: NDArray[np.int64]) -> Answers:
    """Of (K, N, C) probabilities.

    Raises:
        PredictionError: numbers that are no probabilities.
    """
    kept = _blank(len(probs), len(labels))
    for number, one in enumerate(probs):
        _keep(kept, number, slice(0, len(labels)), one, labels)
    return kept


def gather(
    store: PredictionStore,
    split: str,
    names: Sequence[str],
    labels: NDArray[np.int64],
    mixtures: ArrayLike = (),
) -> Gathered:
    """Go through the members' predictions of a split, one partition in memory at a time.

    Args:
        names: of the M members.
        labels: (N,) index of the true class.
        mixtures: (K, M) weights; each mixture's answers are kept too.

    Raises:
        PredictionError: predictions are missing or damaged, no probabilities, or a member failed on most rows.
    """
    weights = np.asarray(mixtures, dtype=np.float64).reshape(-1, len(names))
    members, mixed = _blank(len(names), len(labels)), _blank(len(weights), len(labels))
    answered = np.zeros((len(names), len(labels)), dtype=bool)
    at = 0
    for rows, probs in store.chunks(split, names):
        for member, output in enumerate(probs):
            answered[member, rows] = np.isfinite(output).all(axis=1)
        usable = answered[:, rows].all(axis=0)
        truth = labels[rows][usable]
        place = slice(at, at + len(truth))
        outputs = [output[usable] for output in probs]
        for member, output in enumerate(outputs):
            _keep(members, member, place, output, truth)
        for number, shares in enumerate(weights):
            _keep(mixed, number, place, mixture(shares, outputs), truth)
        at = place.stop
    rows_of = check_usable(names, answered)
    return Gathered(_first(members, at), _first(mixed, at), labels[rows_of], rows_of)


def rows_answered(store: PredictionStore, split: str, names: Sequence[str], count: int) -> NDArray[np.intp]:
    """Numbers of the rows, of ``count``, that every member answered.

    Raises:
        PredictionError: as ``gather``.
    """
    answered = np.zeros((len(names), count), dtype=bool)
    for rows, outputs in store.chunks(split, names):
        for member, output in enumerate(outputs):
            answered[member, rows] = np.isfinite(output).all(axis=1)
    return check_usable(names, answered)


def mixture(weights: Floats, outputs: Sequence[NDArray[Any]] | NDArray[Any]) -> Floats:
    """(N, C) the weighted sum of M members' probabilities, each (N, C)."""
    mixed = np.zeros(outputs[0].shape)
    for weight, output in zip(weights, outputs, strict=True):
        mixed += weight * output
    return mixed


def _blank(answers: int, rows: int) -> Answers:
    shape = answers, rows
    return Answers(np.empty(shape), np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.float32))


def _first(found: Answers, rows: int) -> Answers:
    return Answers(found.right[:, :rows], found.decided[:, :rows], found.confidence[:, :rows])


def _keep(kept: Answers, number: int, rows: slice, probs: NDArray[Any], labels: NDArray[np.int64]) -> None:
    if not len(labels):  # every row of the partition was failed on
        return
    kept.right[number, rows] = true_class(probs[None], labels)[0]
    kept.decided[number, rows] = probs.argmax(axis=1)
    kept.confidence[number, rows] = probs.max(axis=1)
