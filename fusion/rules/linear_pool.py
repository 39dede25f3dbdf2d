"""Mean and weighted mean: the linear opinion pool (Stone 1961, "The Opinion Pool")."""

# M members, B batch, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from quorate.fusion.base import Rule
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.rules.weighting import WeightedRule, pool


class WeightedMean(WeightedRule):
    """Sum of w_m p_m over the members that answered, their weights rescaled to sum to one."""

    name = "weighted_mean"
    linear = True

    def __init__(self, weights: Sequence[float]):
        """Args:
            weights: one per member, finite, >= 0 and not all 0; only their ratios matter.

        Raises:
            RuleOptionError: a weight is unusable.
        """
        super().__init__(len(weights), weights)

    @classmethod
    def _build(cls, members: Sequence[str], weights: list[float] | None, options: Mapping[str, Any]) -> Rule:
        if weights is None:
            raise RuleOptionError(cls.name, "weights", None, "give each member one, or use rule: mean")
        return cls(weights)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return pool(outputs, shares)


class Mean(WeightedRule):
    """Every member that answered counts the same."""

    name = "mean"
    linear = True

    def __init__(self, num_members: int):
        super().__init__(num_members)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return pool(outputs, shares)
