"""Metrics of labels that each hold or not, several a row, as numbers of each row."""

# N rows, K labels

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.evaluation.measures import LEAST_PROBABILITY
from quorate.tuning.evaluation.metrics.area_metrics import area_metric
from quorate.tuning.evaluation.metrics.metric import RowMetric, only
from quorate.tuning.scoring import Floats

LABEL_METRICS = ("log_loss", "brier", "f1_macro", "f1_micro", "roc_auc", "average_precision")


def label_metric(name: str) -> RowMetric:
    """One of ``LABEL_METRICS``: means over labels, but for f1_micro, which counts all labels' decisions together."""
    if name == "log_loss":
        return RowMetric(name, "nats per label", _losses, only, "multilabel")
    if name == "brier":
        return RowMetric(name, "Brier score per label", _squared_errors, only, "multilabel")
    if name.startswith("f1"):
        value = _f1_micro if name == "f1_micro" else _f1_macro
        return RowMetric(name, name, _decisions, value, "multilabel", higher_is_better=True, decides=True)
    return area_metric(name, lambda labels, fused: (labels > 0, fused), "multilabel")


def _losses(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
    right = np.where(truth > 0, fused, 1.0 - fused).astype(np.float64)
    return np.asarray(-np.log(np.maximum(right, LEAST_PROBABILITY)).mean(axis=1, keepdims=True))


def _squared_errors(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
    return np.asarray(((fused - truth).astype(np.float64) ** 2).mean(axis=1, keepdims=True))


def _decisions(truth: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
    """Of each label: said rightly, said, true; side by side. A label is said from one half on, as 1 is."""
    said, true = fused >= 0.5, truth > 0
    return np.concatenate([said & true, said, true], axis=1).astype(np.float64)


def _f1_macro(means: Floats) -> Floats:
    right, said, true = np.split(means, 3, axis=-1)
    named = said + true  # a label that is neither said nor true scores 0, as scikit-learn has it
    return np.asarray((2 * right / np.where(named > 0, named, 1)).mean(axis=-1))


def _f1_micro(means: Floats) -> Floats:
    right, said, true = (part.sum(axis=-1) for part in np.split(means, 3, axis=-1))
    named = said + true
    return np.asarray(2 * right / np.where(named > 0, named, 1))
