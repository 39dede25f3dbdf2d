"""Weights for when members are missing: solved anew for each pattern of who answered, beside the weights rescaled.

A serving fusion rescales its weights to those that answered. The rest were solved beside the missing one, so that is
not always the best that is left; how much is lost is measured here.
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from quorate.tuning.errors import TuningError
from quorate.tuning.scoring import Floats, check_predictions, true_class
from quorate.tuning.solvers.simplex import log_loss_gap, solve_log_loss
from quorate.tuning.solvers.weights import Weights


@dataclass(frozen=True)
class Pattern:
    """One set of members that answered.

    Attributes:
        present: indices of the members that answered.
        solved: the best weights for them, (len(present),), with score and gap.
        rescaled_log_loss: of the full ensemble's weights rescaled to them, nats per row; infinite if none has weight.
    """

    present: tuple[int, ...]
    solved: Weights
    rescaled_log_loss: float


def pattern_weights(
    probs: ArrayLike, labels: ArrayLike, weights: ArrayLike, max_missing: int = 1
) -> tuple[Pattern, ...]:
    """Solve the log-loss weights of every pattern with at most ``max_missing`` members missing, the full one first.

    Args:
        probs: (M, N, C) probabilities.
        labels: (N,) index of the true class.
        weights: (M,) of the full ensemble.
        max_missing: from 0 to M - 1; the number of patterns grows as M over this many.

    Raises:
        TuningError: max_missing would leave no member, or weights are not one per member.
        PredictionError: predictions and labels do not fit, or are no probabilities.
    """
    outputs, truth = check_predictions(probs, labels, "log_loss")
    full = np.asarray(weights, dtype=np.float64)
    members = len(outputs)
    if not 0 <= max_missing < members:
        raise TuningError("max_missing", f"{max_missing}", f"give 0 to {members - 1}, one less than the members")
    if full.shape != (members,):
        raise TuningError("weights", f"shape {full.shape}", f"give ({members},), one per member")
    columns = true_class(outputs, truth)
    return tuple(_solve(columns, full, present) for present in _patterns(members, max_missing))


def _patterns(members: int, max_missing: int) -> Iterator[tuple[int, ...]]:
    for missing in range(max_missing + 1):
        yield from combinations(range(members), members - missing)


def _solve(columns: Floats, full: Floats, present: tuple[int, ...]) -> Pattern:
    part = columns[list(present)]
    values = solve_log_loss(part)
    solved = Weights(values, float(-np.log(values @ part).mean()), log_loss_gap(part, values))
    left = full[list(present)]
    rescaled = float(-np.log((left / left.sum()) @ part).mean()) if left.sum() > 0 else float("inf")
    return Pattern(present, solved, rescaled)
