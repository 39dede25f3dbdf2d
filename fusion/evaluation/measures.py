"""Measures of predictions by name; scikit-learn computes what it computes well.

scikit-learn takes a second to import, so it is imported by the measures that need it.
"""

# N rows, C classes, K numbers

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# The least probability that log-loss sees; scikit-learn's log_loss clips float64 here too. Members answer in float32,
# where softmax gives exact zeros: the clip decides what one such row may cost (36 nats), and scores that are compared
# must charge the same. Tuning solves with this clip as well.
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Measure:
    """A number for predictions against the truth.

    Attributes:
        compute: (labels (N,) class indices, probabilities (N, C)) or, for values, (targets (N, K), predictions (N, K)).
        higher_is_better: False for a loss.
        reads: ``probabilities`` or ``values``.
    """

    compute: Callable[[Array, Array], float]
    higher_is_better: bool
    reads: str = "probabilities"


def expected_calibration_error(labels: Array, probabilities: Array, num_bins: int = 15) -> float:
    """Gap between confidence and accuracy, averaged over equal bins of confidence (Guo et al. 2017, equation 3)."""
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == labels
    # Bins are closed above: a confidence of exactly 1 belongs to the last.
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    gap = np.bincount(bins, weights=right - confidence.astype(np.float64), minlength=num_bins)
    return float(np.abs(gap).sum() / len(labels))


def brier_score(labels: Array, probabilities: Array) -> float:
    """Mean squared distance between probabilities and the 0/1 truth, summed over classes (Brier 1950): 0 to 2."""
    wide = probabilities.astype(np.float64)
    right = np.take_along_axis(wide, labels[:, None].astype(np.int64), axis=-1)[:, 0]
    return float(((wide**2).sum(axis=-1) - 2 * right + 1).mean())


def log_loss(labels: Array, probabilities: Array) -> float:
    """Mean of -log p(truth), in nats; a probability below ``LEAST_PROBABILITY`` counts as that."""
    right = np.take_along_axis(probabilities, labels[:, None].astype(np.int64), axis=-1)[:, 0]
    return float(-np.log(np.maximum(right.astype(np.float64), LEAST_PROBABILITY)).mean())


def accuracy(labels: Array, probabilities: Array) -> float:
    return float((probabilities.argmax(axis=-1) == labels).mean())


def root_mean_squared_error(targets: Array, predictions: Array) -> float:
    return float(np.sqrt(((predictions.astype(np.float64) - targets) ** 2).mean()))


def mean_absolute_error(targets: Array, predictions: Array) -> float:
    return float(np.abs(predictions.astype(np.float64) - targets).mean())


def roc_auc(labels: Array, probabilities: Array) -> float:
    """Area under the ROC curve; with more than two classes the mean of one against the rest."""
    from sklearn.metrics import roc_auc_score

    if probabilities.shape[-1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    # Float32 rows miss a sum of one by more than scikit-learn allows.
    wide = probabilities.astype(np.float64)
    wide /= wide.sum(axis=-1, keepdims=True)
    return float(roc_auc_score(labels, wide, multi_class="ovr", labels=np.arange(wide.shape[-1])))


def _by_label(name: str, average: str) -> Callable[[Array, Array], float]:
    def compute(labels: Array, probabilities: Array) -> float:
        from sklearn import metrics

        score = getattr(metrics, f"{name}_score")
        return float(score(labels, probabilities.argmax(axis=-1), average=average, zero_division=0.0))

    return compute


MEASURES: dict[str, Measure] = {
    "accuracy": Measure(accuracy, True),
    "log_loss": Measure(log_loss, False),
    "brier": Measure(brier_score, False),
    "ece": Measure(expected_calibration_error, False),
    "roc_auc": Measure(roc_auc, True),
    **{
        f"{name}_{average}": Measure(_by_label(name, average), True)
        for name in ("precision", "recall", "f1")
        for average in ("micro", "macro", "weighted")
    },
    "rmse": Measure(root_mean_squared_error, False, "values"),
    "mae": Measure(mean_absolute_error, False, "values"),
}
