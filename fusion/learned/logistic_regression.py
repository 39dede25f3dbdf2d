"""Multinomial logistic regression, solved to its optimum: the answer does not depend on solver or processor."""

# N rows, D features, C classes

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import log_softmax

from quorate.fusion.errors import FusionError

Matrix = NDArray[np.float64]

# Largest entries of the gradient, in units of the loss and for features of unit variance: where the solver stops, and
# above which what it found is not the optimum.
_STOP, _MOST = 1e-9, 1e-6


def fit_logistic_regression(
    features: Matrix, labels: NDArray[Any], num_classes: int, l2: float, penalised: NDArray[np.bool_]
) -> Matrix:
    """Minimise mean log-loss + l2 / 2 * squared coefficients.

    L-BFGS on whitened features: members' logits are large and nearly collinear, so that on the features themselves it
    takes thousands of steps and stops short of the optimum, each processor at another place. Whitened by the Hessian's
    usual bound (Boehning 1992, "Multinomial logistic regression algorithm"), it takes tens to hundreds.

    Args:
        features: (N, D); a column of ones for a bias.
        labels: (N,) class indices.
        num_classes: C.
        l2: the penalty, >= 0; with 0 and classes that can be told apart, coefficients are as large as the loss needs.
        penalised: (D,) which features' coefficients the penalty is for.

    Returns:
        (D, C) coefficients: probabilities are the softmax of features @ coefficients.

    Raises:
        FusionError: the solver did not reach the optimum.
    """
    rows, columns = features.shape
    curvature = features.T @ features / (rows * num_classes) + np.diag(l2 * penalised)
    curvature[np.diag_indices(columns)] += 1e-12 * curvature.trace() / columns  # a feature that is always 0
    root = cholesky(curvature, lower=True)
    white = np.ascontiguousarray(solve_triangular(root, features.T, lower=True).T)
    truth = np.eye(num_classes)[labels]

    def coefficients(parameters: Matrix) -> Matrix:
        found: Matrix = solve_triangular(root, parameters.reshape(columns, num_classes), lower=True, trans="T")
        return found

    def loss(parameters: Matrix) -> tuple[float, Matrix]:
        penalty = coefficients(parameters) * penalised[:, None]
        log_p = log_softmax(white @ parameters.reshape(columns, num_classes), axis=1)
        gradient = white.T @ ((np.exp(log_p) - truth) / rows) + l2 * solve_triangular(root, penalty, lower=True)
        return float(-(truth * log_p).sum() / rows + l2 / 2 * (penalty**2).sum()), gradient.ravel()

    options = {"maxiter": 10_000, "maxfun": 20_000, "maxcor": 30, "gtol": _STOP, "ftol": 0.0}
    solved = minimize(loss, np.zeros(columns * num_classes), jac=True, method="L-BFGS-B", options=options)
    if not np.abs(solved.jac).max() <= _MOST:
        raise FusionError(f"logistic regression stopped before its optimum: {solved.message}; give a larger l2")
    return coefficients(solved.x)
