"""How differently members err (Kuncheva and Whitaker 2003, "Measures of Diversity in Classifier Ensembles")."""

# M members, N rows

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.errors import ShapeError

Matrix = NDArray[np.float64]

# A float32 matrix product counts exactly up to 2**24 rows.
_EXACT_ROWS = 1 << 23


@dataclass(frozen=True)
class Diversity:
    """Pairwise measures, each (M, M) symmetric; 0 where a pair leaves a measure undefined (a member never errs).

    Attributes:
        q: Yule's Q, -1 to 1; 0 for independent errors, 1 where they err on the same rows.
        correlation: of the two members' correctness, -1 to 1.
        disagreement: share of rows on which exactly one of the two is right.
        double_fault: share of rows on which both are wrong.
        kappa: agreement beyond chance on who is right, at most 1.
        oracle: share of rows on which at least one member is right: no choice among members does better.
    """

    q: Matrix
    correlation: Matrix
    disagreement: Matrix
    double_fault: Matrix
    kappa: Matrix
    oracle: float


def diversity(correct: NDArray[np.bool_]) -> Diversity:
    """Measure all pairs at once.

    Args:
        correct: (M, N) bool, whether member m was right on row n: ``predicted == labels``.

    Raises:
        ShapeError: correct is not (M, N) with at least one row.
    """
    if correct.ndim != 2 or 0 in correct.shape:
        raise ShapeError("correct", "(members, rows), at least one of each", str(correct.shape))
    num_rows = correct.shape[1]
    both = np.zeros((len(correct), len(correct)))
    for start in range(0, num_rows, _EXACT_ROWS):
        part = correct[:, start : start + _EXACT_ROWS].astype(np.float32)
        both += part @ part.T
    right = np.diag(both)
    first, second = right[:, None] - both, right[None, :] - both
    neither = num_rows - both - first - second
    cross = both * neither - first * second
    spread = right * (num_rows - right)
    # Chance: twice the rows' margins, as for Cohen's kappa of two raters with two answers.
    chance = right[:, None] * (num_rows - right)[None, :] + right[None, :] * (num_rows - right)[:, None]
    return Diversity(
        q=_ratio(cross, both * neither + first * second),
        correlation=_ratio(cross, np.sqrt(spread[:, None] * spread[None, :])),
        disagreement=(first + second) / num_rows,
        double_fault=neither / num_rows,
        kappa=_ratio(2 * cross, chance),
        oracle=float(correct.any(axis=0).mean()),
    )


def _ratio(above: Matrix, below: Matrix) -> Matrix:
    result: Any = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result  # type: ignore[no-any-return]
