"""Mean and weighted mean: the linear opinion pool (Stone 1961, "The Opinion Pool")."""

# M members, B batch, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from quorate.fusion.base import Rule
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.rules.weight_patterns import WeightPatterns, read_patterns
from quorate.fusion.rules.weighting import WeightedRule, pool


class WeightedMean(WeightedRule):
    """Sum of w_m p_m over the members that answered, their weights rescaled to sum to one.

    A row that exactly the members of a pattern answered is fused with that pattern's weights instead.
    """

    name = "weighted_mean"
    linear = True

    def __init__(self, weights: Sequence[float], patterns: Sequence[Mapping[int, float]] = ()):
        """Args:
            weights: one per member, finite, >= 0 and not all 0; only their ratios matter.
            patterns: weights for rows that some members are missing from, by the indices of those that answered.

        Raises:
            RuleOptionError: a weight is unusable, or a pattern no row can have: all members, or one of weight 0.
        """
        super().__init__(len(weights), weights)
        counted = {member for member, share in enumerate(self.shares.tolist()) if share > 0}
        for pattern in patterns:
            if not set(pattern) < counted:
                fix = "a pattern names some of the members of weight above 0, not all; those have their weights"
                raise RuleOptionError(self.name, "patterns", dict(pattern), fix)
        self.patterns = WeightPatterns(self.name, len(weights), patterns) if patterns else None

    @classmethod
    def _build(cls, members: Sequence[str], weights: list[float] | None, options: Mapping[str, Any]) -> Rule:
        """With ``options.patterns``: a list of mappings from the members that answered to weights."""
        if weights is None:
            raise RuleOptionError(cls.name, "weights", None, "give each member one, or use rule: mean")
        return cls(weights, read_patterns(cls.name, members, options.get("patterns", [])))

    def to_spec(self, members: Sequence[str]) -> dict[str, Any]:
        spec = super().to_spec(members)
        return spec if self.patterns is None else {**spec, "options": {"patterns": self.patterns.to_spec(members)}}

    def _rescaled(self, present: Tensor) -> tuple[Tensor, Tensor]:
        shares, coverage = super()._rescaled(present)
        if self.patterns is not None:
            shares = self.patterns.replaced(shares, self.shares.to(present.device) > 0, present)
        return shares, coverage

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
