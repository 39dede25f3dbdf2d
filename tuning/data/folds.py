"""Folds for cross-validation, by scikit-learn: each with the same mix of classes as all rows."""

# N rows

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.errors import DataError

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def stratified_folds(labels: NDArray[np.int64], folds: int, seed: int) -> list[Fold]:
    """Split rows into folds, as many as there are rows at most.

    Args:
        labels: (N,) class of each row; a class with fewer rows than folds is missing from some.
        seed: same seed, same folds.

    Returns:
        For each fold the rows to fit on and the rows to judge on, in ascending order.

    Raises:
        DataError: fewer than two rows.
    """
    return folds_of(labels, None, None, folds, seed)


def folds_of(
    labels: NDArray[Any], groups: NDArray[Any] | None, times: NDArray[Any] | None, folds: int, seed: int
) -> list[Fold]:
    """The same, rows of one group in one fold, or each fold of later rows than those to fit on.

    With times the earliest rows are in no fold; rows of one time are never on both sides.

    Args:
        labels: (N,) class of each row, or its true value.
        groups: (N,) what rows belong together by; None where each stands alone.
        times: (N,) by what rows are ordered; None where order does not matter. Groups are not looked at then.

    Raises:
        DataError: fewer than two rows, groups or times.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    rows = len(labels)
    if labels.dtype.kind == "f":  # values have no mix to keep
        labels = np.zeros(rows, dtype=np.int64)
    if times is not None:
        return _forward(times, folds)
    count = rows if groups is None else len(np.unique(groups))
    if count < 2:
        what = "rows" if groups is None else "groups"
        raise DataError(f"{what} to cross-validate on", f"{count}", "give at least 2")
    folds = min(folds, count)
    common = bool(np.unique(labels, return_counts=True)[1].max() >= folds)
    if groups is None:
        splitter = (StratifiedKFold if common else KFold)(folds, shuffle=True, random_state=seed)
    else:
        splitter = (StratifiedGroupKFold if common else GroupKFold)(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # scikit-learn warns of a rare class, which does not matter here
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        found = list(splitter.split(np.zeros(rows), labels, groups))
    return [(rest, fold) for rest, fold in found if len(rest) and len(fold)]


def _forward(times: NDArray[Any], folds: int) -> list[Fold]:
    moments, place = np.unique(times, return_inverse=True)
    if len(moments) < 2:
        raise DataError("times to cross-validate on", f"{len(moments)}", "give at least 2")
    # Borders between folds at as many rows each as ties allow.
    cuts = np.quantile(place, np.linspace(0, 1, min(folds, len(moments) - 1) + 2)[1:-1], method="lower")
    cuts = np.unique(np.minimum(cuts, len(moments) - 2))
    found = []
    for low, high in zip(cuts, [*cuts[1:], len(moments) - 1], strict=True):
        rest, fold = np.flatnonzero(place <= low), np.flatnonzero((place > low) & (place <= high))
        if len(rest) and len(fold):
            found.append((rest, fold))
    return found
