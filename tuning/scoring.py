"""What a fused prediction is worth: metrics by name, and the one place where log-loss meets a probability of zero.

Every member's probability of the true class is raised to at least ``LEAST_PROBABILITY`` before anything is computed
from it. Scores, greedy selection and the solver all see the same raised numbers: they agree, and log-loss stays convex.
"""

# M members, N rows, C classes

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.fusion.evaluation.measures import LEAST_PROBABILITY
from quorate.tuning.errors import PredictionError, TuningError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A number for fused predictions.

    Attributes:
        function: (labels, fused) -> score; fused is (N, C) probabilities, (N,) for regression.
        best: the score of a perfect prediction if higher is better, None if the score is itself a loss.
    """

    name: str
    function: Callable[[NDArray[Any], Floats], float]
    best: float | None = None

    def loss(self, labels: NDArray[Any], fused: Floats) -> float:
        """Lower is better: the score itself, or how far it is below the best."""
        score = self.function(labels, fused)
        return score if self.best is None else self.best - score

    def from_loss(self, loss: float) -> float:
        return loss if self.best is None else self.best - loss


def log_loss(labels: NDArray[Any], fused: Floats) -> float:
    """Mean of -log p(true class), nats per row."""
    return float(-np.log(np.maximum(fused[np.arange(len(labels)), labels], LEAST_PROBABILITY)).mean())


def brier(labels: NDArray[Any], fused: Floats) -> float:
    """Mean over rows of the squared distance to the one-hot label, summed over classes (Brier 1950): 0 to 2."""
    residual = fused.copy()
    residual[np.arange(len(labels)), labels] -= 1.0
    return float((residual**2).sum(axis=1).mean())


def rmse(labels: NDArray[Any], fused: Floats) -> float:
    return math.sqrt(float(((fused - labels) ** 2).mean()))


def accuracy(labels: NDArray[Any], fused: Floats) -> float:
    return float((fused.argmax(axis=1) == labels).mean())


def _balanced_accuracy(labels: NDArray[Any], fused: Floats) -> float:
    from sklearn.metrics import recall_score

    return float(recall_score(labels, fused.argmax(axis=1), average="macro", labels=np.unique(labels)))


def _f1_macro(labels: NDArray[Any], fused: Floats) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, fused.argmax(axis=1), average="macro", zero_division=0.0))


def _roc_auc(labels: NDArray[Any], fused: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    if fused.shape[1] == 2:
        return float(roc_auc_score(labels, fused[:, 1]))
    fused = fused / fused.sum(axis=1, keepdims=True)  # scikit-learn refuses rows that are off by more than 1e-5
    return float(roc_auc_score(labels, fused, multi_class="ovr", labels=np.arange(fused.shape[1])))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("log_loss", log_loss),
        Metric("brier", brier),
        Metric("rmse", rmse),
        Metric("accuracy", accuracy, best=1.0),
        Metric("balanced_accuracy", _balanced_accuracy, best=1.0),
        Metric("f1_macro", _f1_macro, best=1.0),
        Metric("roc_auc", _roc_auc, best=1.0),
    )
}

MetricLike = str | Callable[[NDArray[Any], Floats], float]


def find_metric(metric: MetricLike) -> Metric:
    """A metric by name; a callable (labels, fused) -> loss counts as lower is better.

    Raises:
        TuningError: no metric of this name.
    """
    if callable(metric):
        return Metric(getattr(metric, "__name__", "custom"), metric)
    if metric not in METRICS:
        fix = f"give one of {', '.join(METRICS)}, or a callable (labels, fused) -> loss"
        raise TuningError("metric", f"{metric!r} is unknown", fix)
    return METRICS[metric]


def check_predictions(probs: ArrayLike, labels: ArrayLike, metric: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Predictions and labels as arrays that fit each other.

    Args:
        probs: (M, N, C) probabilities; for rmse (M, N) or (M, N, 1) values.
        labels: (N,) class indices; for rmse true values.
        metric: a name; only rmse reads values.

    Returns:
        probs (M, N, C), or (M, N) for rmse, of a floating type, and labels (N,) as int64 or float64.

    Raises:
        PredictionError: shapes or labels do not fit, or there is no row or no member.
    """
    outputs, truth = np.asarray(probs), np.asarray(labels)
    if outputs.dtype.kind not in "fiub" or truth.dtype.kind not in "fiub":
        found = f"{outputs.dtype} predictions with {truth.dtype} labels"
        raise PredictionError(
            "predictions", found, "give numbers; labels of classes are their indices, not their names"
        )
    if outputs.dtype.kind != "f":
        outputs = outputs.astype(np.float64)
    if metric == "rmse" and outputs.ndim == 3 and outputs.shape[2] == 1:
        outputs = outputs[:, :, 0]
    wanted = 2 if metric == "rmse" else 3
    if outputs.ndim != wanted or truth.shape != outputs.shape[1:2] or 0 in outputs.shape:
        shape = "(M, N) values" if wanted == 2 else "(M, N, C) probabilities"
        found = f"predictions {outputs.shape} with labels {truth.shape}"
        raise PredictionError("predictions", found, f"{metric} takes {shape} and (N,) labels, none of them empty")
    if wanted == 2:
        return outputs, truth.astype(np.float64)
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= outputs.shape[2]:
        fix = f"give whole numbers from 0 to {outputs.shape[2] - 1}, the index of the true class"
        raise PredictionError("labels", f"{truth.dtype} from {truth.min()} to {truth.max()}", fix)
    return outputs, truth.astype(np.int64)


def check_finite(outputs: NDArray[Any]) -> None:
    """Refuse predictions with NaN or infinity, naming the first member that has one."""
    for member, output in enumerate(outputs):
        bad = output.size - int(np.isfinite(output).sum())
        if bad:
            raise PredictionError(f"member {member}", f"{bad} predictions are NaN or infinite", "leave the member out")


def true_class(probs: NDArray[Any], labels: NDArray[np.int64]) -> Floats:
    """(M, N) float64: each member's probability of the true class, at least LEAST_PROBABILITY.

    Raises:
        PredictionError: a member's numbers are no probabilities.
    """
    members, rows, classes = probs.shape
    # take on flat rows is twice as fast as fancy indexing with two arrays
    column: Floats = np.take(probs.reshape(members, -1), np.arange(rows) * classes + labels, axis=1).astype(np.float64)
    check_finite(column)
    if column.min() < 0 or column.max() > 1 + 1e-3:
        found = f"numbers from {column.min():g} to {column.max():g}"
        raise PredictionError("predictions", found, "give probabilities, for example a softmax of the logits")
    np.maximum(column, LEAST_PROBABILITY, out=column)
    return column


def member_losses(probs: NDArray[Any], labels: NDArray[np.int64]) -> Floats:
    """(M,) mean log-loss of each member of (M, N, C) predictions."""
    losses: Floats = -np.log(true_class(probs, labels)).mean(axis=1)
    return losses


def residual_gram(outputs: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """(M, M) mean over rows of the residuals' inner products: w' G w is the squared error of weights that sum to one.

    Args:
        outputs: (M, N, C) with class labels (N,), or (M, N) with values (N,).
    """
    check_finite(outputs)
    members, rows = outputs.shape[:2]
    gram = np.zeros((members, members))
    for start in range(0, rows, 4096):  # residuals of all rows at once would be a second copy of the predictions
        part, truth = outputs[:, start : start + 4096].astype(np.float64), labels[start : start + 4096]
        if part.ndim == 3:
            part[:, np.arange(len(truth)), truth] -= 1.0
        else:
            part -= truth
        flat = part.reshape(members, -1)
        gram += flat @ flat.T
    gram /= rows
    return gram
