"""Weights and biases by class for the decision's own metric, as an alternative."""

# M members, N rows, C classes

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.pools import by_name
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.decisions import decision_weights

# A search on more rows finds nothing else and takes minutes.
_ROWS = 20_000


@dataclass(frozen=True)
class Decided:
    """The weighted mean with a bias for each class, searched by accuracy, balanced accuracy, macro F1 or costs.

    Attributes:
        metric: of these; not read when there are costs.
        costs: (C, C) cost of deciding for the column when the row is true.
    """

    metric: str
    costs: Floats | None = None
    name: ClassVar[str] = "decisions"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        some = outputs.sample(_ROWS, seed)
        found = decision_weights(some.probs, some.labels, self.metric, self.costs, restarts=1, seed=seed)
        return Recipe(
            "weighted_mean", outputs.names, by_name(outputs.names, found.weights), calibration=found.calibration
        )
