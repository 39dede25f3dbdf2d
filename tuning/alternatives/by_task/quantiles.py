"""Alternatives for members that predict quantiles: those of all rows, the median, the mean of least pinball loss."""

# M members, N rows, Q quantiles

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quorate.tuning.alternatives.base import Alternative, Kind, Outputs
from quorate.tuning.alternatives.by_task.values import Always, weighted_quantile
from quorate.tuning.alternatives.pools import Rows, by_name, shrunk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.unfitted import UNIFORM, Incumbent
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.pinball import pinball_gap, pinball_weights

# A linear program has a side for each quantile of each row; more make it one of minutes.
_SIDES = 6000
_AVERAGE, _MEDIAN = "quantile_average", "quantile_median"


def quantile_alternatives(names: Sequence[str], incumbent: Incumbent | None = None) -> list[Alternative]:
    """Everything that can be made of members that predict the same quantiles."""
    found: list[Alternative] = [Marginal(), *(Averaged(name, (name,), "single") for name in names)]
    if len(names) > 1:
        found.append(Averaged(UNIFORM, tuple(names), "ensemble"))
    if incumbent is not None:
        found.append(incumbent)
    return [*found, MedianQuantiles(), LeastPinball()] if len(names) > 1 else found


@dataclass(frozen=True)
class Marginal:
    """The quantiles of the true values, whatever the members say: the floor."""

    name: ClassVar[str] = "constant"
    kind: ClassVar[Kind] = "floor"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Always:
        counts = np.ones(len(outputs)) if outputs.weights is None else outputs.weights
        return Always(np.array([weighted_quantile(outputs.labels, counts, level) for level in outputs.levels]))


@dataclass(frozen=True)
class Averaged:
    """The mean of some members' quantiles, each member's in ascending order."""

    name: str
    members: tuple[str, ...]
    kind: Kind
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return Recipe(_AVERAGE, self.members)


@dataclass(frozen=True)
class MedianQuantiles:
    """The median of all members' quantiles, level by level."""

    name: ClassVar[str] = "median"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return Recipe(_MEDIAN, outputs.names)


@dataclass(frozen=True)
class LeastPinball:
    """The weighted mean of the members' quantiles with the least pinball loss over all levels, drawn towards equal
    weights as far as that helps rows left out.

    One weight a member for all levels: then the fused quantiles cannot cross. Lichtendahl, Grushka-Cockayne and Winkler
    2013, "Is It Better to Average Probabilities or Quantiles?".
    """

    name: ClassVar[str] = "tuned"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        some = outputs.sample(_SIDES // len(outputs.levels), seed)

        def solved(rows: Rows) -> Floats:
            values, truth, levels, counts = _sides(some.rows(rows))
            return pinball_weights(values, truth, levels, counts).values

        def losses(tried: Floats, rows: Rows) -> Floats:
            values, truth, levels, counts = _sides(some.rows(rows))
            short = truth - tried @ values
            errors = np.maximum(levels * short, (levels - 1) * short)
            return np.asarray(errors.sum(axis=1) if counts is None else errors @ counts)

        return Recipe(_AVERAGE, some.names, by_name(some.names, shrunk(some, seed, solved, losses)))


def quantile_gap(outputs: Outputs, weights: Mapping[str, float], metric: str) -> float | None:
    """How much lower pinball loss, or crps, can be at most than at these weights; None for another metric."""
    if metric not in ("pinball", "crps"):
        return None
    some = outputs.sample(_SIDES // len(outputs.levels), 0)
    values, truth, levels, counts = _sides(some)
    gap = pinball_gap(values, truth, np.array([weights[name] for name in some.names]), levels, counts)
    return 2 * gap if metric == "crps" else gap


def _sides(outputs: Outputs) -> tuple[Floats, Floats, Floats, Floats | None]:
    """(M, N * Q) quantiles, ascending in each row, (N * Q,) true values, their levels, and how much each counts."""
    values = np.sort(outputs.probs.astype(np.float64), axis=2).reshape(len(outputs.names), -1)
    rows, each = len(outputs), len(outputs.levels)
    counts = None if outputs.weights is None else np.repeat(outputs.weights, each)
    return values, np.repeat(outputs.labels, each), np.tile(outputs.levels, rows), counts
