"""Metrics by name, for every task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.fields.types import Task
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.metrics.class_metrics import CLASS_METRICS, class_metric, cost_metric
from quorate.tuning.evaluation.metrics.label_metrics import LABEL_METRICS, label_metric
from quorate.tuning.evaluation.metrics.metric import OF_CLASSES, RowMetric, only
from quorate.tuning.evaluation.metrics.moment_metrics import MOMENT_METRICS, moment_metric
from quorate.tuning.evaluation.metrics.ranking_metrics import RANKING_METRICS, ranking_metric
from quorate.tuning.evaluation.metrics.tag_metrics import (
    SPAN_F1,
    TAG_METRICS,
    TOKEN_ACCURACY,
    tag_cost_metric,
    tag_metric,
)
from quorate.tuning.evaluation.metrics.value_metrics import (
    QUANTILE_METRICS,
    VALUE_METRICS,
    quantile_metric,
    value_metric,
)
from quorate.tuning.scoring import Floats

# Labels and fused rows, as the task has them, to what each row loses, (N,).
Losses = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
Metric = str | Losses

NAMES: dict[Task, tuple[str, ...]] = {
    "classification": CLASS_METRICS, "binary": CLASS_METRICS, "multilabel": LABEL_METRICS,
    "regression": VALUE_METRICS, "quantiles": QUANTILE_METRICS, "ranking": RANKING_METRICS,
    "tagging": (SPAN_F1, TOKEN_ACCURACY, *CLASS_METRICS), "tokens": (*CLASS_METRICS, TOKEN_ACCURACY),
}  # fmt: skip
_WORDS: dict[Task, str] = {
    "classification": "classes", "binary": "classes", "multilabel": "several labels a row", "regression": "values",
    "quantiles": "quantiles", "ranking": "rankings", "tagging": "tags", "tokens": "tokens",
}  # fmt: skip


def row_metric(
    metric: Metric | None, costs: Floats | None = None, task: Task = "classification", levels: Sequence[float] = (),
    classes: Sequence[str] = (), moments: bool = False,
) -> RowMetric:  # fmt: skip
    """A metric by name; the first of ``NAMES`` of the task when None.

    Args:
        metric: a name, ndcg@K for the first K places, pinball@LEVEL for one quantile; or a callable (labels, fused) to
            what each row loses, (N,): it gets what the task has, class indices or values or relevances, and fused
            probabilities, values, quantiles or scores.
        costs: (C, C) of decisions, of tokens of their decoded tags, instead of a metric.
        task: what members predict.
        levels: of the quantiles that they predict.
        classes: names, for a metric of what tags say.
        moments: they predict means with variances.

    Raises:
        TuningError: the task has no metric of this name, or no costs.
    """
    if costs is not None:
        if task not in OF_CLASSES:
            raise TuningError("costs", f"costs of {_WORDS[task]}", "leave them out: they are of decisions for a class")
        return tag_cost_metric(costs, classes) if task in ("tagging", "tokens") else cost_metric(costs)
    if callable(metric):
        return replace(_given(metric, task), moments=moments)
    if moments:
        return _of_moments(metric)
    name, _, argument = (metric or NAMES[task][0]).partition("@")
    if task == "multilabel" and name in VALUE_METRICS:  # 0 and 1 are values too
        task = "regression"
    if name in TAG_METRICS and task in OF_CLASSES:
        return tag_metric(name, classes)
    if name not in NAMES[task] or (argument and (task, name) not in (("ranking", "ndcg"), ("regression", "pinball"))):
        known = f"{', '.join(NAMES[task])}"
        raise TuningError("metric", f"{metric!r} of {_WORDS[task]}", f"give one of {known}, or a callable")
    if task == "quantiles":
        return quantile_metric(name, levels)
    if task == "ranking":
        return ranking_metric(name, argument)
    if task == "regression":
        return value_metric(name, argument)
    return label_metric(name) if task == "multilabel" else class_metric(name)


def _of_moments(metric: str | None) -> RowMetric:
    name = metric or MOMENT_METRICS[0]
    if name not in MOMENT_METRICS:
        known = ", ".join(MOMENT_METRICS)
        raise TuningError("metric", f"{name!r} of means with variances", f"give one of {known}, or a callable")
    return moment_metric(name)


def _given(losses: Losses, task: Task) -> RowMetric:
    name = getattr(losses, "__name__", "loss")

    def rows(labels: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
        found = np.asarray(losses(labels, fused), dtype=np.float64)
        if found.shape != (len(fused),) or not np.isfinite(found).all():
            fix = f"return what each of the {len(fused)} rows loses, a finite number each"
            raise TuningError("metric", f"{name} returned shape {found.shape}, or NaN", fix)
        return found[:, None]

    return RowMetric(name, name, rows, only, task)
