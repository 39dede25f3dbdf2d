"""Metrics of predicted values, one or several a row, and of their quantiles, as numbers of each row."""

# N rows, K values or quantiles a row

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.metrics.metric import RowMetric, only, root
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.pinball import pinball

VALUE_METRICS = ("rmse", "mae", "r2", "pinball", "crps")
QUANTILE_METRICS = ("pinball", "crps")


def value_metric(name: str, argument: str = "") -> RowMetric:
    """One of ``VALUE_METRICS``, the mean over a row's values (r2: of each value's own).

    pinball is of the quantile that the argument names, the median without: below 1/2 it is dearer to say too much.
    The continuous ranked probability score of a single value is its absolute error (Gneiting and Raftery 2007,
    "Strictly Proper Scoring Rules, Prediction, and Estimation", section 4.2).

    Raises:
        TuningError: an argument that is no level of a quantile.
    """
    if name == "rmse":
        return RowMetric(name, name, _squared_errors, root, "regression")
    if name == "r2":
        return RowMetric(name, name, _explained, _r2, "regression", higher_is_better=True)
    if name != "pinball":
        return RowMetric(name, name, _absolute_errors, only, "regression")
    level = _level(argument) if argument else 0.5

    def rows(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
        return np.asarray(pinball(-_errors(truth, fused), np.array([level])).mean(axis=1, keepdims=True))

    return RowMetric(f"{name}@{argument}" if argument else name, "pinball loss", rows, only, "regression", level=level)


def quantile_metric(name: str, levels: Sequence[float]) -> RowMetric:
    """pinball, the mean over the levels, or crps, which is twice that where they are evenly spaced.

    The score is 2 * integral of the pinball loss over all levels (Laio and Tamea 2007, "Verification tools for
    probabilistic forecasts of continuous hydrological variables", eq. 7; Gneiting and Ranjan 2011, "Comparing Density
    Forecasts Using Threshold- and Quantile-Weighted Scoring Rules"); its mean over even levels stands for the integral.

    Raises:
        TuningError: crps of levels that are not evenly spaced.
    """
    steps, times = np.diff(levels), 2.0 if name == "crps" else 1.0
    if name == "crps" and (len(levels) < 2 or np.ptp(steps) > 1e-6):
        found = f"crps of the quantiles {', '.join(f'{level:g}' for level in levels)}"
        raise TuningError("metric", found, "give pinball, or predict quantiles at evenly spaced levels")

    def rows(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
        short = truth[:, None] - fused.astype(np.float64)
        return np.asarray(times * pinball(short, np.asarray(levels)).mean(axis=1, keepdims=True))

    return RowMetric(name, "pinball loss" if name == "pinball" else name, rows, only, "quantiles")


def _level(argument: str) -> float:
    try:
        level = float(argument)
    except ValueError:
        level = 0.0
    if not 0 < level < 1:
        raise TuningError("metric", f"pinball@{argument}", "name a level above 0 and below 1, such as pinball@0.9")
    return level


def _errors(truth: NDArray[Any], fused: NDArray[Any]) -> Floats:
    """(N, K) of each of a row's values."""
    return np.asarray(fused - truth.reshape(fused.shape), dtype=np.float64)


def _absolute_errors(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
    return np.asarray(np.abs(_errors(truth, fused)).mean(axis=1, keepdims=True))


def _squared_errors(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
    return np.asarray((_errors(truth, fused) ** 2).mean(axis=1, keepdims=True))


def _explained(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
    """Of each value: the squared error, the truth and its square, side by side."""
    values = truth.reshape(fused.shape).astype(np.float64)
    return np.concatenate([_errors(truth, fused) ** 2, values, values**2], axis=1)


def _r2(means: Floats) -> Floats:
    """The share of the variance that is explained; 0 where there is none, as scikit-learn has it."""
    error, mean, square = np.split(means, 3, axis=-1)
    variance = square - mean**2
    there = variance > 1e-12 * np.maximum(square, 1e-300)
    return np.asarray(np.where(there, 1 - error / np.where(there, variance, 1), 0.0).mean(axis=-1))
