"""Weights of the log-linear pool: p proportional to the product of p_m ** w_m, for w >= 0 of any sum.

The log-loss is convex in the weights (a multinomial logit in M numbers); weights that sum to more or less than one
sharpen or flatten the pool, so a temperature is solved with them (Satopaa et al. 2014, "Combining multiple probability
predictions using a simple logit model"). The gap is Frank-Wolfe's over all weights whose sum is at most ``MOST``.
"""

# M members, N rows, C classes

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.weights import Weights

MOST = 10.0
_CELLS = 1 << 20  # of (M, rows, C) at once: a few megabytes


def log_pool_weights(
    probs: NDArray[Any], labels: NDArray[np.int64], floor: float = 1e-12, counts: Floats | None = None
) -> Weights:
    """Solve for the weights >= 0 of least log-loss.

    Args:
        probs: (M, N, C) probabilities.
        labels: (N,) index of the true class.
        floor: a probability below it counts as it.
        counts: (N,) how much each row counts, 1 in the mean; None where all count 1.

    Returns:
        (M,) weights that do not sum to one, their log-loss in nats per row, and the gap: no weights with a sum of at
        most ``MOST`` have a loss lower by more than it.
    """
    problem = _Problem(probs, labels, floor, counts)
    members = len(probs)
    options = {"maxiter": 500, "maxcor": 20, "gtol": 1e-7, "ftol": 1e-14}
    found = minimize(
        problem.loss, np.full(members, 1.0 / members), jac=True, method="L-BFGS-B", bounds=[(0, MOST)] * members,
        options=options,
    )  # fmt: skip
    weights = np.asarray(found.x * min(1.0, MOST / max(found.x.sum(), 1e-300)))
    loss, slopes = problem.loss(weights)
    gap = float(slopes @ weights - min(0.0, MOST * slopes.min()))
    return Weights(weights, loss, max(0.0, gap))


def log_pool_loss(
    probs: NDArray[Any], labels: NDArray[np.int64], weights: Floats, floor: float = 1e-12, counts: Floats | None = None
) -> float:
    """The log-loss of these weights (M,), nats per row; the rest as of ``log_pool_weights``."""
    return _Problem(probs, labels, floor, counts).loss(weights)[0]


class _Problem:
    """The loss and its gradient, block of rows by block."""

    def __init__(self, probs: NDArray[Any], labels: NDArray[np.int64], floor: float, counts: Floats | None):
        self.probs, self.labels, self.floor = probs, labels, floor
        self.counts = np.ones(len(labels)) if counts is None else counts
        self.step = max(1, _CELLS // (probs.shape[0] * probs.shape[2]))

    def loss(self, weights: Floats) -> tuple[float, Floats]:
        total, slopes = 0.0, np.zeros(len(weights))
        rows = len(self.labels)
        for at in range(0, rows, self.step):
            part, truth = self.probs[:, at : at + self.step], self.labels[at : at + self.step]
            counts, every = self.counts[at : at + self.step], np.arange(len(truth))
            logs = np.log(np.maximum(part, self.floor), dtype=np.float64)
            fused = softmax(np.tensordot(weights, logs, axes=1), axis=1)
            right = np.maximum(fused[every, truth], np.finfo(np.float64).tiny)
            total -= float(counts @ np.log(right))
            fused[every, truth] -= 1.0
            slopes += np.tensordot(logs, fused * counts[:, None], axes=([1, 2], [0, 1]))
        return total / rows, slopes / rows
