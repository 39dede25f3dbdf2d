"""Weights with biases by class, or thresholds by label, for the decision's own metric, as alternatives."""

# M members, N rows, C classes, K labels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from quorate.fusion.calibration.decision import Decision, fit_thresholds
from quorate.tuning.alternatives.base import Alternative, Fitted, Kind, Outputs, answers_of
from quorate.tuning.alternatives.by_task.values import LeastLogLoss
from quorate.tuning.alternatives.pools import by_name
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.unfitted import Member
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


@dataclass(frozen=True)
class DecidedLabels:
    """Another alternative with a threshold for each label, of the highest F1 on the rows.

    Attributes:
        under: whose fused probabilities are decided on.
        together: F1 of all labels counted together, not the mean of each label's.
    """

    under: Alternative
    together: bool
    name: ClassVar[str] = "decisions"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return _decided(self.under.fit(outputs, seed), outputs, self.together, seed)[1]


@dataclass(frozen=True)
class DecidedSingle:
    """The member with the highest F1 once it has such thresholds, alone."""

    together: bool
    name: ClassVar[str] = "decided_single"
    kind: ClassVar[Kind] = "single"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        members = [Member(name).fit(outputs, seed) for name in outputs.names]
        return max((_decided(one, outputs, self.together, seed) for one in members), key=lambda pair: pair[0])[1]


def label_decisions(names: Sequence[str], together: bool) -> list[Alternative]:
    """The single one, and of several members the ensemble."""
    several: list[Alternative] = [DecidedLabels(LeastLogLoss(), together)] if len(names) > 1 else []
    return [DecidedSingle(together), *several]


def _decided(fitted: Fitted, outputs: Outputs, together: bool, seed: int) -> tuple[float, Recipe]:
    """F1 on the rows, and the recipe with its thresholds."""
    assert isinstance(fitted, Recipe)  # of members' probabilities
    some = outputs.sample(_ROWS, seed)
    fused, truth = answers_of(fitted, some), some.truth > 0
    thresholds = fit_thresholds(fused, truth, together)
    said = fused >= np.array(thresholds, dtype=np.float32)
    right, named = ((part).sum(axis=0) for part in (2.0 * (said & truth), said * 1.0 + truth))
    f1 = right.sum() / max(named.sum(), 1) if together else (right / np.maximum(named, 1)).mean()
    return float(f1), replace(fitted, decision=Decision(tuple(thresholds)))
