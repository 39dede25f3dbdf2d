"""Dempster's rule of combination over members that are only partly believed (Shafer 1976, chapters 3 and 11)."""

# M members, B batch, C classes

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.numerics.product import multiply_members
from quorate.fusion.numerics.scratch import in_blocks, scratch
from quorate.fusion.numerics.tracing import for_numpy
from quorate.fusion.rules.weighting import WeightedRule


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
        values = self._values(outputs, shares, present)
        return values, values.detach().amax(dim=-1) == 0

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        reliability = self.reliability.to(outputs.device).unsqueeze(1)
        if present is not None:
            reliability = reliability * present

        def formula(rows: slice) -> Tensor:
            r = (reliability if reliability.shape[1] == 1 else reliability[:, rows]).unsqueeze(-1)
            believed = _one_column_more(outputs[:, rows]).mul_(r).add_(1 - r)
            return _pignistic(multiply_members(believed, outputs[:, rows])).float()

        return in_blocks(formula, outputs)


def _one_column_more(outputs: Tensor) -> Tensor:
    """(M, B, C + 1) float64, zeros for a class that nobody believes in: its product is what is left undecided."""
    if not for_numpy(outputs):
        return pad(outputs.double(), (0, 1))
    *rows, classes = outputs.shape
    wide = torch.from_numpy(scratch((*rows, classes + 1), np.float64))
    wide[..., :classes] = outputs
    wide[..., classes] = 0.0
    return wide


def _pignistic(product: Tensor) -> Tensor:
    """(B, C) from the unnormalised mass of the classes and of none of them (B, C + 1); zeros where there is no mass."""
    classes, undecided = product[:, :-1], product[:, -1:]
    mass = (classes - undecided).clamp(min=0)
    total = mass.sum(dim=-1, keepdim=True) + undecided
    return (mass + undecided / classes.shape[-1]) / torch.where(total > 0, total, 1.0)
