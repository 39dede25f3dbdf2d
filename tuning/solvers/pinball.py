"""Weights of least pinball loss, which at level 1/2 is half the absolute error: a linear program, solved exactly."""

# M members, N rows

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.errors import TuningError
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.weights import Weights


def pinball_weights(
    values: Floats, truth: Floats, level: float | Floats = 0.5, counts: Floats | None = None
) -> Weights:
    """Solve for the weights >= 0 with sum 1 whose weighted mean has the least mean pinball loss.

    Koenker and Bassett 1978, "Regression Quantiles", section 3, with the weights on the simplex; by HiGHS.

    Args:
        values: (M, N) of the members.
        truth: (N,) true values.
        level: above 0 and below 1: a prediction that is too low by d loses level * d, one too high (1 - level) * d; one
            for all rows, or (N,), where rows are quantiles of several levels.
        counts: (N,) how much each row counts; None where all count the same.

    Returns:
        The weights, their loss, and the gap to the dual solution: no weights have a loss lower by more than it.

    Raises:
        TuningError: the program was not solved.
    """
    from scipy.optimize import linprog
    from scipy.sparse import bmat, csr_array, eye_array

    members, rows = values.shape
    share = np.full(rows, 1.0 / rows) if counts is None else counts / counts.sum()
    cost = np.concatenate([np.zeros(members), level * share, (1 - level) * share])
    # What is missing to the truth, u, and what is too much, v: w'x + u - v = y.
    sides = bmat([[csr_array(values.T), eye_array(rows), -eye_array(rows)], [np.ones((1, members)), None, None]], "csr")
    wanted = np.append(truth, 1.0)
    found = linprog(cost, A_eq=sides, b_eq=wanted, method="highs")
    if found.status != 0:
        raise TuningError("weights of least absolute error", found.message, "give finite values")
    weights = np.maximum(found.x[:members], 0.0)
    weights /= weights.sum()
    score = pinball_loss(values, truth, weights, level, share)
    return Weights(weights, score, max(0.0, score - float(found.eqlin.marginals @ wanted)))


def pinball(short: Floats, level: float | Floats) -> Floats:
    """The loss of predictions that are too low by ``short``, at their levels; both of any shapes that go together."""
    return np.asarray(np.maximum(level * short, (level - 1) * short))


def pinball_loss(
    values: Floats,
    truth: Floats,
    weights: NDArray[np.float64],
    level: float | Floats = 0.5,
    share: Floats | None = None,
) -> float:
    """Mean loss of the weighted mean; ``share`` (N,) sums to one."""
    short = truth - weights @ values
    return float(np.average(pinball(short, level), weights=share))


def pinball_gap(
    values: Floats, truth: Floats, weights: Floats, level: float | Floats = 0.5, counts: Floats | None = None
) -> float:
    """How much lower the loss can be at most than at these weights."""
    best = pinball_weights(values, truth, level, counts)
    return max(0.0, pinball_loss(values, truth, weights, level, counts) - best.score + (best.gap or 0.0))
