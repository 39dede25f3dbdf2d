"""The product rule (Kittler, Hatef, Duin and Matas 1998, "On Combining Classifiers", equation 7, equal priors)."""

# M members, B batch, C classes

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion.products import multiply_members
from quorate.fusion.rounding import with_slope
from quorate.fusion.weighting import WeightedRule, normalise


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
        significand, exponent = multiply_members(factors)
        value = normalise(_to_one_scale(significand, exponent), outputs.detach(), shares)
        if not outputs.requires_grad:
            return value.float()
        # A row's scale cancels in the normalised product: dividing by the largest keeps the slope clear of underflow.
        scaled = factors.double() / factors.detach().amax(dim=-1, keepdim=True).clamp(min=1e-45)
        return with_slope(value.float(), normalise(scaled.prod(dim=0), outputs, shares))


def _to_one_scale(significand: Tensor, exponent: Tensor | None) -> Tensor:
    """Rows relative to their largest class, so that nothing that matters underflows."""
    if exponent is None:
        return significand / significand.amax(dim=-1, keepdim=True).clamp(min=1e-300)
    significand, shift = torch.frexp(significand)
    exponent = torch.where(significand > 0, exponent + shift, -(2**30))
    relative = (exponent - exponent.amax(dim=-1, keepdim=True)).clamp(min=-1000)
    return torch.ldexp(significand, relative)
