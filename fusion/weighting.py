"""Who counts how much in a row: the ground that every closed-form rule stands on."""

# M members, B batch, C classes

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quorate.fusion.base import Fused, Rule
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError
from quorate.fusion.order_free import weighted_sum
from quorate.fusion.tracing import require, surely, tracing

# Sets of members whose shares are kept: a few members late in turn, not every set of twenty.
_MOST_SETS = 256
_NOBODY = ("one member with weight above 0 in every row", "a row without any")


class WeightedMembers(Rule):
    """Members count by fixed weights, rescaled in every row to those who answered; how they fuse is the rule's."""

    def __init__(self, num_members: int, weights: Sequence[float] | None = None):
        """Args:
            num_members: M.
            weights: M finite numbers >= 0, not all 0; None when every member counts the same.

        Raises:
            RuleOptionError: a weight is unusable.
            MemberCountError: there are not M of them.
        """
        self.num_members = num_members
        self.spec_weights = None if weights is None else [float(weight) for weight in weights]
        values = self.checked(self.name, num_members, weights)
        total = math.fsum(values)
        # In shares from here on: weights near the ends of float64 cannot overflow a sum.
        self.shares = torch.tensor([weight / total for weight in values], dtype=torch.float64)
        self._contributions = self.shares.float().unsqueeze(1)

    @staticmethod
    def checked(rule: str, num_members: int, weights: Sequence[float] | None) -> list[float]:
        """M usable weights, all 1 for None; raises as the constructor says."""
        if num_members < 1:
            raise RuleOptionError(rule, "num_members", num_members, "fuse at least one member")
        values = [1.0] * num_members if weights is None else [float(weight) for weight in weights]
        if len(values) != num_members:
            raise MemberCountError(len(values), num_members)
        if any(not math.isfinite(weight) or weight < 0 for weight in values):
            raise RuleOptionError(rule, "weights", values, "give each member a finite weight >= 0")
        if not 0 < sum(values) < math.inf:
            raise RuleOptionError(rule, "weights", values, "give weights with a finite sum above 0")
        return values

    def _rescaled(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Shares (M, B) float64 of those present, and coverage (B,) float32.

        Shares are added in ascending order, which owes nothing to that of the members. Rounding alone must not take
        coverage off one: it is one exactly where nobody with weight is missing.
        """
        if tracing() or present.device.type != "cpu":
            return self._rescaled_in_graph(present)
        # numpy takes a quarter of torch's time for so few numbers, and a fusion with a member missing is mostly this.
        there, own = present.numpy(), self.shares.numpy()[:, None]
        taking_part = own * there
        coverage = np.sort(taking_part, axis=0).cumsum(axis=0)[-1]
        if not coverage.all():
            raise QuorumError(*_NOBODY)
        coverage32 = coverage.astype(np.float32)
        coverage32[(there | (own == 0)).all(axis=0)] = 1.0
        return torch.from_numpy(taking_part / coverage), torch.from_numpy(coverage32)

    def _rescaled_in_graph(self, present: Tensor) -> tuple[Tensor, Tensor]:
        own = self.shares.to(present.device).unsqueeze(1)
        taking_part = own * present
        coverage = taking_part.sort(dim=0).values.cumsum(dim=0)[-1]
        require(coverage > 0, *_NOBODY)
        everyone = (present | (own == 0)).all(dim=0)
        return taking_part / coverage, torch.where(everyone, 1.0, coverage.float())


class WeightedRule(WeightedMembers):
    """A rule that is a formula of the outputs and their shares; a member contributes its share."""

    def __init__(self, num_members: int, weights: Sequence[float] | None = None):
        super().__init__(num_members, weights)
        self._of_those_left: dict[tuple[torch.device, bytes], tuple[Tensor, Tensor, Tensor]] = {}

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        if surely(present == present[:, :1]):
            return self._fuse_those_left(outputs, present)
        shares, coverage = self._rescaled(present)
        values, abstained = self._decide(outputs, shares, present)
        return Fused(values, shares.float(), coverage, abstained)

    def _fuse_those_left(self, outputs: Tensor, present: Tensor) -> Fused:
        """Fuse rows that the same members answered; one late for a whole batch is what mostly happens."""
        who = (present.device, bytes(present[:, 0].tolist()))
        if who not in self._of_those_left:
            if len(self._of_those_left) >= _MOST_SETS:
                self._of_those_left.clear()
            shares, coverage = self._rescaled(present[:, :1])
            self._of_those_left[who] = (shares[:, 0], shares.float(), coverage)
        own, contributions, coverage = self._of_those_left[who]
        values, abstained = self._decide(outputs, own, present)
        batch = outputs.shape[1]
        return Fused(values, contributions.expand(-1, batch).clone(), coverage.expand(batch).clone(), abstained)

    def _fuse_complete(self, outputs: Tensor) -> Fused:
        values, abstained = self._decide(outputs, self.shares.to(outputs.device), None)
        batch = outputs.shape[1]
        contributions = self._contributions.to(outputs.device).expand(-1, batch).clone()
        return Fused(values, contributions, torch.ones(batch, device=outputs.device), abstained)

    def _decide(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Fused rows and who abstained; nobody, unless the rule says otherwise."""
        return self._values(outputs, shares, present), None

    @abstractmethod
    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        """Fuse rows.

        Args:
            outputs: (M, B, C) float32, finite; absent rows are zero.
            shares: (M, B) float64, sums to one over M, 0 for the absent; (M,) when the same are present in all rows.
            present: (M, B) bool; None when all are.

        Returns:
            (B, C) float32.
        """


def pool(outputs: Tensor, shares: Tensor) -> Tensor:
    """The linear pool: (B, C) float32 sum of share times output."""
    return weighted_sum(shares, outputs)


def normalise(values: Tensor, outputs: Tensor, shares: Tensor) -> Tensor:
    """Let rows sum to one; a row in which no class is left takes the members' mean instead."""
    total = values.sum(dim=-1, keepdim=True)
    if surely(total > 0):
        return values / total
    values = torch.where(total > 0, values, pool(outputs, shares))
    total = values.sum(dim=-1, keepdim=True)
    return values / torch.where(total > 0, total, 1.0)
