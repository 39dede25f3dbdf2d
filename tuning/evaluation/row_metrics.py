"""Metrics as numbers of each row and what their mean is worth: so that rows can be drawn anew without fusing anew."""

# N rows, C classes, F numbers a row

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.evaluation.measures import LEAST_PROBABILITY
from quorate.fusion.sequences.decoding import decode_flat, first_tokens
from quorate.fusion.sequences.tags import TagScheme, tag_scheme
from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.errors import TuningError
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.decisions import DECISION_METRICS, decision_scores
from quorate.tuning.solvers.spans import TrueTags, f1_of

TOKEN_ACCURACY, SPAN_F1 = TAG_METRICS = ("token_accuracy", "span_f1")


@dataclass(frozen=True)
class RowMetric:
    """A metric of fused rows.

    Attributes:
        unit: what differences of it are called.
        rows: (labels (N,), fused (N, C)) to (N, F).
        value: means (..., F) of those numbers to (...).
        higher_is_better: False for a loss.
        of_values: it reads values, not probabilities.
        decides: what the metric reads is the most probable class alone; ``costs`` (C, C) of decisions where given.
        of_tags: rows are tokens and the metric reads their decoded tags: ``rows`` takes those in place of what is
            fused, and which tokens are the first of their sequences. ``scheme`` is how the classes say spans.
    """

    name: str
    unit: str
    rows: Callable[..., Floats]
    value: Callable[[Floats], Floats]
    higher_is_better: bool = False
    decides: bool = False
    costs: Floats | None = None
    of_values: bool = False
    of_tags: bool = False
    scheme: TagScheme | None = None

    def numbers(self, outputs: Outputs, fused: NDArray[Any]) -> Floats:
        """(N, F) of answered rows."""
        if not self.of_tags:
            return self.rows(outputs.labels, fused)
        sequences = np.arange(len(outputs)) if outputs.sequences is None else outputs.sequences
        tags, (order, first) = decode_flat(fused, sequences, self.scheme), first_tokens(sequences)
        numbers = self.rows(outputs.labels[order], tags[order], first)
        back = np.empty_like(numbers)
        back[order] = numbers
        return back

    def gain(self, before: Floats, after: Floats) -> Floats:
        """How much better the second is than the first."""
        return np.asarray(after - before if self.higher_is_better else before - after)


def row_metric(
    name: str, costs: Floats | None = None, multilabel: bool = False, classes: Sequence[str] = ()
) -> RowMetric:
    """A metric by name: log_loss, brier, accuracy, balanced_accuracy, f1_macro; cost with a table of costs; of values
    rmse and mae; of tokens token_accuracy and span_f1.

    Args:
        name: of the metric.
        costs: of decisions.
        multilabel: each of a row's labels holds or not by itself: log_loss or brier per label.
        classes: names, for a metric of what tags say.

    Raises:
        TuningError: no metric of this name, or one that the classes say nothing for.
    """
    if name in TAG_METRICS and costs is None and not multilabel:
        return _tag_metric(name, tag_scheme(classes))
    if multilabel:
        if costs is not None or name not in ("log_loss", "brier"):
            found = "costs" if costs is not None else repr(name)
            raise TuningError("metric", f"{found} of several labels a row", "give log_loss or brier")
        if name == "brier":
            return RowMetric(name, "Brier score per label", _squared_errors, _only, of_values=True)
        return RowMetric(name, "nats per label", _label_losses, _only, of_values=True)
    if costs is not None:
        table = costs
        return RowMetric(
            "cost", "cost per row", lambda y, p: table[y, p.argmax(axis=1)][:, None], _only, decides=True, costs=costs
        )
    if name == "log_loss":
        return RowMetric(name, "nats per row", _log_losses, _only)
    if name == "brier":
        return RowMetric(name, "Brier score", _brier, _only)
    if name in DECISION_METRICS:
        return RowMetric(name, name, _decisions, lambda means: _decided(name, means), True, True)
    if name == "rmse":
        return RowMetric(name, name, _squared_errors, _root, of_values=True)
    if name == "mae":
        return RowMetric(name, name, _absolute_errors, _only, of_values=True)
    known = (
        f"log_loss, brier, {', '.join(DECISION_METRICS)}; rmse or mae for values; {' or '.join(TAG_METRICS)} for tags"
    )
    raise TuningError("metric", f"{name!r} is unknown", f"give {known}")


def _tag_metric(name: str, scheme: TagScheme | None) -> RowMetric:
    if name == TOKEN_ACCURACY:
        return RowMetric(name, name, _right_tokens, _only, True, of_tags=True, scheme=scheme)
    if scheme is None:
        raise TuningError(
            "metric", "span_f1 of classes that say no spans", "name them O, B-x and I-x, or token_accuracy"
        )

    def counts(labels: NDArray[np.int64], tags: NDArray[np.int64], first: NDArray[np.bool_]) -> Floats:
        return TrueTags(labels, first, scheme).counts(tags)

    return RowMetric(name, "span F1", counts, f1_of, True, of_tags=True, scheme=scheme)


def _right_tokens(labels: NDArray[np.int64], tags: NDArray[np.int64], first: NDArray[np.bool_]) -> Floats:
    return np.asarray((labels == tags)[:, None], dtype=np.float64)


def _root(means: Floats) -> Floats:
    return np.asarray(np.sqrt(means[..., 0]))


def _only(means: Floats) -> Floats:
    return np.asarray(means[..., 0])


def _log_losses(labels: NDArray[np.int64], fused: NDArray[Any]) -> Floats:
    right = fused[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(right, LEAST_PROBABILITY))[:, None]


def _label_losses(truth: NDArray[Any], fused: NDArray[Any]) -> Floats:
    right = np.where(truth > 0, fused, 1.0 - fused).astype(np.float64)
    return np.asarray(-np.log(np.maximum(right, LEAST_PROBABILITY)).mean(axis=1, keepdims=True))


def _brier(labels: NDArray[np.int64], fused: NDArray[Any]) -> Floats:
    residual = fused.astype(np.float64)
    residual[np.arange(len(labels)), labels] -= 1.0
    return np.asarray((residual**2).sum(axis=1, keepdims=True))


def _decisions(labels: NDArray[np.int64], fused: NDArray[Any]) -> Floats:
    """Of each class: decided rightly, decided for, true; side by side."""
    classes = np.eye(fused.shape[1])
    decided, true = classes[fused.argmax(axis=1)], classes[labels]
    return np.concatenate([decided * true, decided, true], axis=1)


def _decided(metric: str, means: Floats) -> Floats:
    flat = means.reshape(-1, means.shape[-1])
    right, decided, support = np.split(flat, 3, axis=1)
    return np.asarray(decision_scores(metric, right, decided, support)).reshape(means.shape[:-1])


def _errors(truth: NDArray[Any], fused: NDArray[Any]) -> Floats:
    """(N, K) of each of a row's values."""
    return np.asarray(fused - truth.reshape(fused.shape), dtype=np.float64)


def _absolute_errors(truth: NDArray[Any], fused: NDArray[Any]) -> Floats:
    return np.asarray(np.abs(_errors(truth, fused)).mean(axis=1, keepdims=True))


def _squared_errors(truth: NDArray[Any], fused: NDArray[Any]) -> Floats:
    return np.asarray((_errors(truth, fused) ** 2).mean(axis=1, keepdims=True))
