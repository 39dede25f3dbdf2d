"""Metrics of class probabilities, as numbers of each row."""

# N rows, C classes

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.evaluation.measures import LEAST_PROBABILITY
from quorate.tuning.evaluation.metrics.area_metrics import area_metric
from quorate.tuning.evaluation.metrics.metric import RowMetric, only
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.decisions import DECISION_METRICS, decision_scores

CLASS_METRICS = ("log_loss", "brier", *DECISION_METRICS, "roc_auc", "average_precision")


def class_metric(name: str) -> RowMetric:
    """One of ``CLASS_METRICS``; areas are of the second of two classes, or the mean of each against the rest."""
    if name == "log_loss":
        return RowMetric(name, "nats per row", _log_losses, only)
    if name == "brier":
        return RowMetric(name, "Brier score", _brier, only)
    if name in DECISION_METRICS:
        return RowMetric(
            name, name, _decisions, lambda means: _decided(name, means), higher_is_better=True, decides=True
        )
    return area_metric(name, _of_classes)


def cost_metric(costs: Floats) -> RowMetric:
    """The mean cost of deciding for the most probable class; costs (C, C), the true class down."""

    def rows(labels: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
        return np.asarray(costs[labels, fused.argmax(axis=1)][:, None])

    return RowMetric("cost", "cost per row", rows, only, decides=True, costs=costs)


def _log_losses(labels: NDArray[np.int64], fused: NDArray[Any], counts: Floats | None) -> Floats:
    right = fused[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(right, LEAST_PROBABILITY))[:, None]


def _brier(labels: NDArray[np.int64], fused: NDArray[Any], counts: Floats | None) -> Floats:
    residual = fused.astype(np.float64)
    residual[np.arange(len(labels)), labels] -= 1.0
    return np.asarray((residual**2).sum(axis=1, keepdims=True))


def _decisions(labels: NDArray[np.int64], fused: NDArray[Any], counts: Floats | None) -> Floats:
    """Of each class: decided rightly, decided for, true; side by side."""
    classes = np.eye(fused.shape[1])
    decided, true = classes[fused.argmax(axis=1)], classes[labels]
    return np.concatenate([decided * true, decided, true], axis=1)


def _decided(metric: str, means: Floats) -> Floats:
    flat = means.reshape(-1, means.shape[-1])
    right, decided, support = np.split(flat, 3, axis=1)
    return np.asarray(decision_scores(metric, right, decided, support)).reshape(means.shape[:-1])


def _of_classes(labels: NDArray[np.int64], fused: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """(N, K) which of the classes that are looked at is true, and its scores."""
    true = labels[:, None] == np.arange(fused.shape[1])
    return (true[:, 1:], fused[:, 1:]) if fused.shape[1] == 2 else (true, fused)
