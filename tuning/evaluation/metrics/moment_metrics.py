"""Metrics of predicted means with variances, one or several a row, as numbers of each row."""

# N rows, K values a row: K means, then their K variances

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from quorate.tuning.evaluation.metrics.metric import RowMetric, only
from quorate.tuning.evaluation.metrics.value_metrics import value_metric
from quorate.tuning.scoring import Floats

_OF_MEANS = ("rmse", "mae", "r2")
MOMENT_METRICS = ("crps", "nll", *_OF_MEANS)
_LEAST_VARIANCE = 1e-12


def moment_metric(name: str) -> RowMetric:
    """One of ``MOMENT_METRICS``: crps and nll of a normal distribution with this mean and variance, or of means alone.

    Gneiting and Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and Estimation", section 4.2; nll in nats.
    """
    if name not in _OF_MEANS:
        return RowMetric(name, name, _crps if name == "crps" else _nll, only, "regression", moments=True)
    of_means = value_metric(name)

    def rows(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
        return of_means.rows(truth, fused[:, : fused.shape[1] // 2], counts)

    return replace(of_means, rows=rows, moments=True)


def _crps(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
    spread, off = _standard(truth, fused)
    score = spread * (off * (2 * norm.cdf(off) - 1) + 2 * norm.pdf(off) - 1 / np.sqrt(np.pi))
    return np.asarray(score.mean(axis=1, keepdims=True))


def _nll(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
    spread, off = _standard(truth, fused)
    return np.asarray((np.log(spread) - norm.logpdf(off)).mean(axis=1, keepdims=True))


def _standard(truth: NDArray[Any], fused: NDArray[Any]) -> tuple[Floats, Floats]:
    """(N, K) standard deviations, and how many of them each value is off."""
    means, variances = np.split(fused.astype(np.float64), 2, axis=1)
    spread = np.sqrt(np.maximum(variances, _LEAST_VARIANCE))
    return spread, (truth.reshape(means.shape) - means) / spread
