"""The product rule (Kittler, Hatef, Duin and Matas 1998, "On Combining Classifiers", equation 7, equal priors)."""

# M members, B batch, C classes

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion.numerics.order_free import Rows, order_free, widened
from quorate.fusion.numerics.products import multiply_members
from quorate.fusion.numerics.rounding import UNIT
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

        def formula(rows: Rows, rank: bool) -> tuple[Tensor, float]:
            product, error = multiply_members(widened(factors[:, rows]), rank, factors[:, rows])
            total = product.sum(dim=-1, keepdim=True)
            return product / torch.where(total > 0, total, 1.0), 2 * error + 32 * UNIT

        return normalise(order_free(formula, factors), outputs, shares)
