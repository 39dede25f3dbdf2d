"""Who counts how much in a row: the ground that every closed-form rule stands on."""

# M members, B batch, C classes

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from quorate.fusion.base import Fused, Rule
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError
from quorate.fusion.summation import sum_members, weighted_sum


class WeightedRule(Rule):
    """A rule whose members count by fixed weights, rescaled in every row to those who answered."""

    def __init__(self, num_members: int, weights: Sequence[float] | None = None):
        """Args:
            num_members: M.
            weights: M finite numbers >= 0, not all 0; None when every member counts the same.

        Raises:
            RuleOptionError: a weight is unusable.
            MemberCountError: there are not M of them.
        """
        if num_members < 1:
            raise RuleOptionError(self.name, "num_members", num_members, "fuse at least one member")
        self.num_members = num_members
        self.spec_weights = None if weights is None else [float(weight) for weight in weights]
        values = [1.0] * num_members if self.spec_weights is None else self.spec_weights
        if len(values) != num_members:
            raise MemberCountError(len(values), num_members)
        if any(not math.isfinite(weight) or weight < 0 for weight in values):
            raise RuleOptionError(self.name, "weights", values, "give each member a finite weight >= 0")
        total = math.fsum(values)
        if not 0 < total < math.inf:
            raise RuleOptionError(self.name, "weights", values, "give weights with a finite sum above 0")
        # In shares from here on: weights near the ends of float64 cannot overflow a sum.
        self.shares = torch.tensor([weight / total for weight in values], dtype=torch.float64)
        self._contributions = self.shares.float().unsqueeze(1)

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        taking_part = self.shares.to(outputs.device).unsqueeze(1) * present
        coverage = sum_members(taking_part)
        if not bool((coverage > 0).all()):
            raise QuorumError("one member with weight above 0 in every row", "a row without any")
        shares = taking_part / coverage
        values, abstained = self._decide(outputs, shares, present)
        # What is missing must show, and nothing else: rounding alone never takes coverage off one.
        everyone = (present | (self.shares.to(outputs.device) == 0).unsqueeze(1)).all(dim=0)
        return Fused(values, shares.float(), torch.where(everyone, 1.0, coverage.float()), abstained)

    def _fuse_complete(self, outputs: Tensor) -> Fused:
        values, abstained = self._decide(outputs, self.shares.to(outputs.device), None)
        batch = outputs.shape[1]
        contributions = self._contributions.to(outputs.device).expand(-1, batch)
        return Fused(values, contributions, torch.ones(batch, device=outputs.device), abstained)

    def _decide(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Fused rows and who abstained; a rule that never abstains says ``_values`` instead."""
        return self._values(outputs, shares, present), None

    @abstractmethod
    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        """Fuse rows.

        Args:
            outputs: (M, B, C) float32, finite; absent rows are zero.
            shares: (M, B) float64, sums to one over M, 0 for the absent; (M,) when all are present.
            present: (M, B) bool; None when all are.

        Returns:
            (B, C) float32.
        """


def pool(outputs: Tensor, shares: Tensor) -> Tensor:
    """The linear pool: (B, C) float32 sum of share times output."""
    return weighted_sum(shares, outputs).float()


def normalise(values: Tensor, outputs: Tensor, shares: Tensor) -> Tensor:
    """Let rows sum to one; a row in which no class is left takes the members' mean instead."""
    total = values.sum(dim=-1, keepdim=True)
    if bool((total > 0).all()):
        return values / total
    values = torch.where(total > 0, values, pool(outputs, shares))
    total = values.sum(dim=-1, keepdim=True)
    return values / torch.where(total > 0, total, 1.0)
