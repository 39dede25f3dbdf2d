"""Which alternatives there are, the simpler ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from quorate.fusion.sequences.tags import TagScheme
from quorate.tuning.alternatives.attended import FEWEST_ROWS, Attended
from quorate.tuning.alternatives.base import Alternative
from quorate.tuning.alternatives.by_task.spans import BiasedPool, BiasedSingle, Biases, SpanVoted
from quorate.tuning.alternatives.by_task.values import Constant, LeastAbsolute, LeastLogLoss, LeastSquares, Loss, Median
from quorate.tuning.alternatives.calibrated import CalibratedPool, CalibratedSingle, Calibrator
from quorate.tuning.alternatives.chosen_by_row import by_row_alternatives
from quorate.tuning.alternatives.decided import Decided
from quorate.tuning.alternatives.pools import LinearPool, LogPool
from quorate.tuning.alternatives.stacked import Stacked
from quorate.tuning.alternatives.unfitted import ClassFrequencies, Incumbent, Member, Uniform


def value_alternatives(
    names: Sequence[str], loss: Loss = "squared", incumbent: Incumbent | None = None, level: float = 0.5
) -> list[Alternative]:
    """Everything that can be made of members that predict values, or each of several labels by itself.

    Args:
        names: of the members.
        loss: of a value; ``log`` of a label that holds with that probability.
        incumbent: what the spec has now.
        level: of an absolute loss: the quantile that is meant.
    """
    found: list[Alternative] = [Constant(loss, level), *(Member(name) for name in names)]
    if len(names) > 1:
        found.append(Uniform())
    if incumbent is not None:
        found.append(incumbent)
    if len(names) > 1:
        tuned: dict[Loss, Alternative] = {
            "squared": LeastSquares(), "absolute": LeastAbsolute(level), "log": LeastLogLoss()
        }  # fmt: skip
        found += [tuned["log"]] if loss == "log" else [Median(), tuned[loss]]
    return found


def _weights(incumbent: Incumbent | None) -> Mapping[str, float]:
    """Of a weighted mean that is served now."""
    served = None if incumbent is None or incumbent.recipe.rule != "weighted_mean" else incumbent.recipe
    return {} if served is None else served.weights or {}


def alternatives(
    names: Sequence[str],
    incumbent: Incumbent | None = None,
    decided: Decided | None = None,
    rows: int = 0,
    scheme: TagScheme | None = None,
    inputs: Mapping[str, NDArray[Any]] | None = None,
) -> list[Alternative]:
    """Everything that can be made of these members' class probabilities.

    Args:
        names: of the members; of one alone there is no ensemble.
        incumbent: what the spec has now.
        decided: for a metric of decisions.
        rows: how many there are to fit on.
        scheme: for a metric of spans: how the classes say them.
        inputs: (N, D) each, by name, that members may be chosen by.
    """
    calibrator = Calibrator()
    found: list[Alternative] = [ClassFrequencies(), *(Member(name) for name in names), CalibratedSingle(calibrator)]
    biases = None if scheme is None else Biases(scheme)
    if biases is not None:
        found.append(BiasedSingle(biases))
    if len(names) > 1:
        found.append(Uniform())
    if incumbent is not None:
        found.append(incumbent)
    if len(names) > 1:
        found += [LinearPool(_weights(incumbent)), LogPool(), CalibratedPool(calibrator), Stacked()]
    if len(names) > 1 and rows >= FEWEST_ROWS:
        found.append(Attended())
    if len(names) > 1:
        found += by_row_alternatives(inputs or {}, rows)
    if decided is not None:
        found.append(decided)
    if biases is not None and len(names) > 1:
        found += [BiasedPool(biases.scheme), SpanVoted(biases)]
    return found
