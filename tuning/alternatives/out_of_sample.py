"""What each alternative says of rows it was not fitted on: solving rows out of fold, and all judging rows."""

# M members, N solving rows, J judging rows, C classes, F numbers a row

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.errors import QuorateError
from quorate.tuning.alternatives.base import Alternative, Fitted, Outputs
from quorate.tuning.data.folds import Fold, folds_of

FOLDS = 5
# (labels (N,), fused (N, C)) to the (N, F) numbers that a metric is made of.
Numbers = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]


@dataclass(frozen=True)
class OutOfSample:
    """What one alternative's answers are worth, in a metric's numbers of each row.

    Attributes:
        fitted: on all solving rows.
        solving: (N, F) of the solving rows, each answered by what was fitted on the other folds; NaN in rows that are
            in none.
        judging: (J, F).
    """

    alternative: Alternative
    fitted: Fitted
    solving: NDArray[np.float64]
    judging: NDArray[np.float64]


def out_of_sample(
    alternatives: Sequence[Alternative],
    solve: Outputs,
    judge: Outputs,
    numbers: Numbers,
    seed: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> tuple[list[OutOfSample], dict[str, str]]:
    """Fit and apply every alternative; also what kept those that could not be fitted, by name.

    Raises:
        DataError: too few rows to make folds of.
    """
    say = on_step or (lambda step: None)
    folds = folds_of(solve.labels, solve.groups, solve.times, FOLDS, seed)
    found, left_out = [], {}
    for one in alternatives:
        say(f"fitting {one.name}" if one.fitted else f"judging {one.name}")
        try:
            found.append(_answers(one, solve, judge, numbers, folds, seed))
        except QuorateError as error:
            if one.kind != "ensemble":
                raise
            left_out[one.name] = str(error)
    return found, left_out


def _answers(
    one: Alternative, solve: Outputs, judge: Outputs, numbers: Numbers, folds: Sequence[Fold], seed: int
) -> OutOfSample:
    fitted = one.fit(solve, seed)
    judging = numbers(judge.labels, fitted.fuse(judge.names, judge.probs))
    solving = np.full((len(solve), judging.shape[1]), np.nan)
    for rest, fold in folds:
        part = one.fit(solve.rows(rest), seed) if one.fitted else fitted
        solving[fold] = numbers(solve.labels[fold], part.fuse(solve.names, solve.probs[:, fold]))
    return OutOfSample(one, fitted, solving, judging)
