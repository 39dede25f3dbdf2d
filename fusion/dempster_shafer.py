"""Dempster's rule of combination over members that are only partly believed (Shafer 1976, chapters 3 and 11)."""

# M members, B batch, C classes

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.products import multiply_members
from quorate.fusion.rounding import with_slope
from quorate.fusion.weighting import WeightedRule

# Beyond float32: what a class gains over the undecided mass is a difference of two products.
_GUARD_BITS = 10


class DempsterShafer(WeightedRule):
    """Each member's distribution is evidence, discounted by its reliability; the answer is the pignistic probability.

    A member of reliability r gives r p_c to each class and 1 - r to "any class" (Shafer's discounting). Dempster's
    rule then gives class c the product of r p_c + 1 - r less the product of 1 - r, and what is left undecided is shared
    equally among the classes (Smets 1990, the pignistic transformation). Two wholly reliable members that exclude each
    other's first choice elect whatever both find barely possible (Zadeh's paradox): discount them. A row in which the
    evidence contradicts itself wholly has no answer by this rule and abstains.
    """

    name = "dempster_shafer"

    def __init__(self, num_members: int, weights: Sequence[float] | None = None):
        """Args:
            num_members: M.
            weights: the members' reliabilities, from 0 to 1, not all 0; None when all are 1.

        Raises:
            RuleOptionError: a reliability is out of range.
        """
        super().__init__(num_members, weights)
        reliability = [1.0] * num_members if self.spec_weights is None else self.spec_weights
        if max(reliability) > 1:
            raise RuleOptionError(self.name, "weights", reliability, "give reliabilities from 0 to 1")
        self.reliability = torch.tensor(reliability, dtype=torch.float64)

    def _decide(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor | None]:
        reliability = self.reliability.to(outputs.device).unsqueeze(1)
        if present is not None:
            reliability = reliability * present
        reliability = reliability.unsqueeze(-1)  # (M, B or 1, 1)
        believed = reliability * outputs.double() + (1 - reliability)
        fixed = believed.detach()
        (classes, class_exponent), (open_, open_exponent) = (
            multiply_members(fixed, _GUARD_BITS),
            multiply_members(1 - reliability, _GUARD_BITS),
        )
        if class_exponent is not None and open_exponent is not None:
            scale = class_exponent.amax(dim=-1, keepdim=True)
            classes = torch.ldexp(classes, (class_exponent - scale).clamp(min=-1000))
            open_ = torch.ldexp(open_.expand_as(scale), (open_exponent - scale).clamp(min=-1000))
        values, contradicted = _pignistic(classes, open_)
        if outputs.requires_grad:
            values = with_slope(values, _pignistic(believed.prod(dim=0), (1 - reliability).prod(dim=0))[0])
        return values, contradicted


def _pignistic(classes: Tensor, undecided: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C) float32 from unnormalised mass (B, C) and undecided mass (B or 1, 1); which rows have neither."""
    mass = (classes - undecided).clamp(min=0)
    total = mass.sum(dim=-1, keepdim=True) + undecided
    contradicted = total <= 0
    share = (mass + undecided / classes.shape[-1]) / torch.where(contradicted, 1.0, total)
    return share.float(), contradicted.squeeze(-1)
