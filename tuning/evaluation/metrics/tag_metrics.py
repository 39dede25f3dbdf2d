"""Metrics of tagged tokens, as numbers of each token: they read the tags that are decoded, not the probabilities."""

# N tokens

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.sequences.tags import tag_scheme
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.metrics.metric import RowMetric, only
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.spans import TrueTags, f1_of

TOKEN_ACCURACY, SPAN_F1 = TAG_METRICS = ("token_accuracy", "span_f1")


def tag_metric(name: str, classes: Sequence[str]) -> RowMetric:
    """One of ``TAG_METRICS``, of these classes.

    Raises:
        TuningError: span_f1 of classes that say no spans.
    """
    scheme = tag_scheme(classes)
    if name == TOKEN_ACCURACY:
        return RowMetric(name, name, _right_tokens, only, higher_is_better=True, of_tags=True, scheme=scheme)
    if scheme is None:
        fix = "name them O, B-x and I-x, or token_accuracy"
        raise TuningError("metric", "span_f1 of classes that say no spans", fix)

    def counts(labels: NDArray[np.int64], tags: NDArray[np.int64], first: NDArray[np.bool_]) -> Floats:
        return TrueTags(labels, first, scheme).counts(tags)

    return RowMetric(name, "span F1", counts, f1_of, higher_is_better=True, of_tags=True, scheme=scheme)


def tag_cost_metric(costs: Floats, classes: Sequence[str]) -> RowMetric:
    """The mean cost of a token's decoded tag; costs (C, C), the true tag down."""

    def rows(labels: NDArray[np.int64], tags: NDArray[np.int64], first: NDArray[Any]) -> Floats:
        return np.asarray(costs[labels, tags][:, None])

    scheme = tag_scheme(classes)
    return RowMetric("cost", "cost per token", rows, only, decides=True, costs=costs, of_tags=True, scheme=scheme)


def _right_tokens(labels: NDArray[np.int64], tags: NDArray[np.int64], first: NDArray[Any]) -> Floats:
    return np.asarray((labels == tags)[:, None], dtype=np.float64)
