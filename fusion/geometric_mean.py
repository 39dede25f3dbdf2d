"""The log-linear pool (Genest and Zidek 1986, "Combining Probability Distributions")."""

# M members, B batch, C classes

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.summation import weighted_sum
from quorate.fusion.weighting import WeightedRule

# Kept beyond float32 in the mean logarithm: at -100 its rounding is then 1e-8 of the probability.
_GUARD_BITS = 8


class GeometricMean(WeightedRule):
    """Product of p_m ** w_m, normalised: what every member finds unlikely is unlikely.

    A probability below the floor counts as the floor, so that one member's zero (or a class that it does not know)
    weighs much but is no veto.
    """

    name = "geometric_mean"

    def __init__(self, num_members: int, weights: Sequence[float] | None = None, floor: float = 1e-12):
        """Args:
            num_members: M.
            weights: one per member, finite and >= 0; None when all count the same.
            floor: the least probability, between 1e-37 and 1.

        Raises:
            RuleOptionError: a weight or the floor is out of range.
        """
        super().__init__(num_members, weights)
        if not isinstance(floor, (int, float)) or not 1e-37 <= floor < 1:
            raise RuleOptionError(self.name, "floor", floor, "give a probability from 1e-37 to below 1")
        self.floor = float(floor)
        self.options = {"floor": self.floor}

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        logs = outputs.clamp(min=self.floor).log_()
        pooled = weighted_sum(shares, logs, _GUARD_BITS)
        # From the row's largest: the exponents that matter are small and lose nothing in float32.
        return (pooled - pooled.detach().amax(dim=-1, keepdim=True)).float().softmax(dim=-1)
