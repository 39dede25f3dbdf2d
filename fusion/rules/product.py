"""The product rule (Kittler, Hatef, Duin and Matas 1998, "On Combining Classifiers", equation 7, equal priors)."""

# M members, B batch, C classes

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion.numerics.product import multiply_members
from quorate.fusion.rules.weighting import WeightedRule, normalise


class Product(WeightedRule):
    """Product of the members' probabilities, normalised: right for members that err independently.

    One member's 0 is a veto, also for a class that it does not know. A row in which every class is vetoed takes the
    members' mean; ``GeometricMean`` has a floor instead.
    """

    name = "product"

    def __init__(self, num_members: int):
        super().__init__(num_members)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        factors = outputs if present is None else torch.where(present.unsqueeze(-1), outputs, 1.0)
        return normalise(multiply_members(factors, factors), outputs, shares).float()
