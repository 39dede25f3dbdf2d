"""Folds for cross-validation, by scikit-learn: each with the same mix of classes as all rows."""

# N rows

from __future__ import annotations

import warnings

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
    from sklearn.model_selection import KFold, StratifiedKFold

    rows = len(labels)
    if rows < 2:
        raise DataError("rows to cross-validate on", f"{rows}", "give at least 2")
    folds = min(folds, rows)
    common = bool(np.unique(labels, return_counts=True)[1].max() >= folds)
    splitter = (StratifiedKFold if common else KFold)(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # scikit-learn warns of a rare class, which does not matter here
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(splitter.split(np.zeros(rows), labels))
