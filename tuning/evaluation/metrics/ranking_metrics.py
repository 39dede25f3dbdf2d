"""How good an order is: NDCG of lists, one number a list."""

# N lists of up to L entries each, NaN behind the last

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.metrics.metric import RowMetric, only
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.ranking import ndcg

RANKING_METRICS = ("ndcg",)


def ranking_metric(name: str, argument: str = "") -> RowMetric:
    """ndcg over all places of a list, or ndcg@K over the first K.

    Raises:
        TuningError: K is no whole number above 0.
    """
    if argument and not (argument.isdecimal() and int(argument)):
        raise TuningError("metric", f"{name}@{argument}", "say how many places count, such as ndcg@10")
    top = int(argument) if argument else None

    def rows(labels: NDArray[Any], fused: NDArray[Any], counts: Floats | None) -> Floats:
        return ndcg(labels, fused, top)[:, None]

    return RowMetric(
        f"{name}@{argument}" if argument else name, name, rows, only, "ranking", higher_is_better=True, top=top
    )
