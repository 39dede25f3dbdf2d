"""Alternatives for members that predict means with variances: their mixture, and their mean by precision."""

# M members, N rows, K values a row: K means, then their K variances

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quorate.tuning.alternatives.base import Alternative, Kind, Outputs
from quorate.tuning.alternatives.by_task.values import Always
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.reweighing.reweighted import Reweighted
from quorate.tuning.alternatives.reweighing.trials import Loss
from quorate.tuning.alternatives.unfitted import UNIFORM, Incumbent

_MIXTURE, _PRECISION = "mixture_moments", "inverse_variance"


def moment_alternatives(names: Sequence[str], loss: Loss, incumbent: Incumbent | None = None) -> list[Alternative]:
    """Everything that can be made of members that predict means with variances.

    Args:
        names: of the members.
        loss: what is compared by.
        incumbent: what the spec has now.
    """
    found: list[Alternative] = [AllAlike(), *(Alike(name, _MIXTURE, (name,), "single") for name in names)]
    everyone = tuple(names)
    if len(names) > 1:
        found += [Alike(UNIFORM, _MIXTURE, everyone), Alike("precision", _PRECISION, everyone)]
    if incumbent is not None:
        found.append(incumbent)
    if len(names) > 1:
        mixture, precision = (Recipe(rule, everyone) for rule in (_MIXTURE, _PRECISION))
        found.append(Reweighted(mixture, mixture, loss, "tuned"))
        found.append(Reweighted(precision, precision, loss, "tuned_precision"))
    return found


@dataclass(frozen=True)
class AllAlike:
    """Mean and variance of the true values, whatever the members say: the floor."""

    name: ClassVar[str] = "constant"
    kind: ClassVar[Kind] = "floor"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Always:
        mean = np.average(outputs.truth, axis=0, weights=outputs.weights)
        variance = np.average((outputs.truth - mean) ** 2, axis=0, weights=outputs.weights)
        return Always(np.concatenate([mean, variance]))


@dataclass(frozen=True)
class Alike:
    """A rule over means and variances in which all members count the same."""

    name: str
    rule: str
    members: tuple[str, ...]
    kind: Kind = "ensemble"
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return Recipe(self.rule, self.members)
