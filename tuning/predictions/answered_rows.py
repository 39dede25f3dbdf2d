"""The rows that every member answered: what weights are solved on and ensembles are judged by."""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.errors import PredictionError
from quorate.tuning.predictions.some_rows import Predicted


@dataclass(frozen=True)
class AnsweredRows:
    """Predictions and labels of such rows.

    Attributes:
        probs: (M, N, C).
        labels: (N,).
        rows: (N,) their numbers among all rows.
    """

    probs: NDArray[Any]
    labels: NDArray[np.int64]
    rows: NDArray[np.intp]


def usable_rows(names: Sequence[str], predictions: Sequence[NDArray[Any]], labels: NDArray[np.int64]) -> AnsweredRows:
    """Leave out the rows that some member did not answer.

    Raises:
        PredictionError: a member failed on more than half of the rows.
    """
    rows = check_usable(names, np.array([np.isfinite(output).all(axis=1) for output in predictions]))
    return AnsweredRows(np.stack([output[rows] for output in predictions]), labels[rows], rows)


def check_usable(names: Sequence[str], answered: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Numbers of the rows that every member answered; ``answered`` is (M, N).

    Raises:
        PredictionError: a member failed on more than half of the rows, or each row was failed on by some member.
    """
    for name, good in zip(names, answered, strict=True):
        if good.mean() < 0.5:
            found = f"it failed on {len(good) - int(good.sum())} of {len(good)} rows"
            raise PredictionError(f"members.{name}", found, "correct the member, or leave it out of the fusion")
    rows = np.flatnonzero(answered.all(axis=0))
    if not len(rows):
        raise PredictionError("predictions", "no row was answered by every member", "correct the members that fail")
    return rows


def answered_by_all(predictions: Sequence[NDArray[Any]]) -> NDArray[np.intp]:
    """Numbers of the rows that every member answered."""
    return np.flatnonzero(np.all([np.isfinite(output).all(axis=1) for output in predictions], axis=0))


def rows_answered(store: Predicted, split: str, names: Sequence[str], count: int) -> NDArray[np.intp]:
    """The same of a split of ``count`` rows in a store, one partition in memory at a time.

    Raises:
        PredictionError: predictions are missing or damaged, or a member failed on more than half of the rows.
    """
    answered = np.zeros((len(names), count), dtype=bool)
    for rows, outputs in store.chunks(split, names):
        for member, output in enumerate(outputs):
            answered[member, rows] = np.isfinite(output).all(axis=1)
    return check_usable(names, answered)
