"""Weights for when members are missing: solved anew for each pattern of who answered, beside the weights rescaled.

A serving fusion rescales its weights to those that answered. The rest were solved beside the missing one, so that is
not always the best that is left; how much is lost is measured here. What is worth having goes into the spec, as the
option ``patterns`` of ``weighted_mean``.
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.tuning.data.folds import Fold, stratified_folds
from quorate.tuning.errors import TuningError
from quorate.tuning.scoring import Floats, check_predictions, true_class
from quorate.tuning.solvers.simplex import log_loss_gap, solve_log_loss
from quorate.tuning.solvers.weights import Weights

# Common is one member missing, or two; a fusion of many members keeps to the first so many.
MAX_MISSING, MAX_PATTERNS = 2, 64
_FOLDS = 5


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


def worthwhile_patterns(
    probs: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike,
    quorum: int = 1,
    required: Sequence[int] = (),
    seed: int = 0,
) -> tuple[Pattern, ...]:
    """Patterns that weights of their own serve better than rescaled ones, on rows they were not solved on.

    Kept is what gains more than twice its standard error in cross-validation, where both the full weights and the
    pattern's are solved on the other folds. Only members of weight above 0 are asked in serving, so only they make
    patterns.

    Args:
        probs: (M, N, C) probabilities.
        labels: (N,) index of the true class.
        weights: (M,) of the full ensemble.
        quorum: the fewest members that are ever fused.
        required: members without which nothing is.
        seed: of the folds.

    Returns:
        Patterns with weights solved on all rows, of at most ``MAX_MISSING`` missing members, ``MAX_PATTERNS`` tried.

    Raises:
        PredictionError: predictions and labels do not fit, or are no probabilities.
    """
    outputs, truth = check_predictions(probs, labels, "log_loss")
    full, columns = np.asarray(weights, dtype=np.float64), true_class(outputs, truth)
    asked = np.flatnonzero(full > 0)
    fewest = max(1, quorum, len(asked) - MAX_MISSING)
    some = [
        tuple(present)
        for size in range(len(asked) - 1, fewest - 1, -1)
        for present in combinations(asked.tolist(), size)
        if set(required) <= set(present)
    ][:MAX_PATTERNS]
    gains = _held_out_gains(columns, asked, some, stratified_folds(truth, _FOLDS, seed))
    errors = gains.std(axis=1) / np.sqrt(columns.shape[1])
    return tuple(
        _solve(columns, full, present)
        for present, gain, error in zip(some, gains.mean(axis=1), errors, strict=True)
        if gain > 2 * error
    )


def _held_out_gains(
    columns: Floats, asked: NDArray[np.int64], patterns: list[tuple[int, ...]], folds: list[Fold]
) -> Floats:
    """(patterns, N) how much lower each row's log-loss is under the pattern's own weights than under rescaled ones."""
    gains = np.zeros((len(patterns), columns.shape[1]))
    for others, fold in folds:
        rest = columns[:, others]
        full = np.zeros(len(columns))
        full[asked] = solve_log_loss(rest[asked])
        for gain, present in zip(gains, map(list, patterns), strict=True):
            left = full[present] if full[present].sum() > 0 else np.ones(len(present))
            own, judged = solve_log_loss(rest[present]), columns[present][:, fold]
            gain[fold] = np.log(own @ judged) - np.log(left / left.sum() @ judged)
    return gains


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
