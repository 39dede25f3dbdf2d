"""Who counts how much in a row: the ground that every closed-form rule stands on."""

# M members, B batch, C classes

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.fusion.base import Fused, FusedArrays, Rule
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError
from quorate.fusion.numerics.order_free import in_place, weighted_sum, weighted_sum_of_arrays
from quorate.fusion.numerics.scratch import room
from quorate.fusion.numerics.tracing import require, surely, tracing

_Members = TypeVar("_Members", bound="WeightedRule")

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
        self._left: dict[tuple[torch.device, bytes], _Left] = {}
        self._everyone = (self.shares.numpy(), self._contributions.numpy(), np.ones(1, dtype=np.float32))

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        shares, coverage = self._rescaled(present)
        values, abstained = self._decide(outputs, shares, present)
        return Fused(values, shares.float(), coverage, abstained)

    def _fuse_finite(self, outputs: Tensor, present: Tensor) -> Fused:
        alike = bool((present == present[:, :1]).all())
        return self._fuse_those_left(outputs, present) if alike else super()._fuse_finite(outputs, present)

    def _fuse_those_left(self, outputs: Tensor, present: Tensor) -> Fused:
        """Fuse rows that the same members answered; one late for a whole batch is what mostly happens."""
        left, batch = self._those(present[:, :1]), outputs.shape[1]
        if self.linear:
            values, abstained = self._decide(outputs, left.shares, present)
        else:
            values, abstained = left.rule._decide(_of(outputs, left.kept), left.rule.shares, None)
        contributions = left.contributions.expand(-1, batch).clone()
        return Fused(values, contributions, left.coverage.expand(batch).clone(), abstained)

    def _those(self, present: Tensor) -> _Left:
        """The shares of the members that an (M, 1) mask names, kept from call to call."""
        who = (present.device, bytes(present[:, 0].tolist()))
        if who not in self._left:
            if len(self._left) >= _MOST_SETS:
                self._left.clear()
            self._left[who] = self._of_those(present)
        return self._left[who]

    @torch.inference_mode(False)  # what is kept must do for training too
    def _of_those(self, present: Tensor) -> _Left:
        shares, coverage = self._rescaled(present)
        kept = present[:, 0].nonzero().flatten()
        return _Left(self._only(kept, shares[kept, 0]), kept, shares[:, 0], shares.float(), coverage)

    def _only(self: _Members, kept: Tensor, shares: Tensor) -> _Members:
        """The rule of some of its members, given by number, with these shares."""
        rule = copy(self)
        rule.num_members, rule.shares = len(kept), shares
        return rule

    def fuse_arrays(self, outputs: NDArray[np.float32], present: NDArray[np.bool_] | None = None) -> FusedArrays:
        """``fuse`` of NumPy's arrays, without a gradient; the same to the bit.

        A linear rule over members that are in all rows or in none leaves torch alone: for three members, a row and ten
        classes that takes 13 us instead of 35, and where others have used the processor's caches meanwhile, as in a
        server that is asked now and then, 100 us instead of 400 (one core of an x86-64 server, 2026-11-25).
        """
        if not self.linear or outputs.ndim != 3 or not outputs.size or len(outputs) != self.num_members:
            return super().fuse_arrays(outputs, present)
        shares, contributions, coverage = self._everyone
        if present is not None:
            first = present[:, :1]
            if present.dtype != np.bool_ or present.shape != outputs.shape[:2] or not (present == first).all():
                return super().fuse_arrays(outputs, present)
            if not first.all():
                shares, contributions, coverage = self._those(torch.from_numpy(first)).arrays
        values = weighted_sum_of_arrays(shares, outputs)
        if not np.isfinite(values).all():
            return super().fuse_arrays(outputs, present)
        batch = outputs.shape[1]
        return FusedArrays(values, contributions.repeat(batch, axis=1), coverage.repeat(batch))

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


@dataclass(frozen=True)
class _Left:
    """What fuses rows that the same members answered.

    Attributes:
        rule: of those members alone.
        kept: their numbers.
        shares: (M,) float64, 0 for the absent.
        contributions: (M, 1) float32.
        coverage: (1,) float32.
        arrays: the last three in NumPy's arrays.
    """

    rule: WeightedRule
    kept: Tensor
    shares: Tensor
    contributions: Tensor
    coverage: Tensor

    @cached_property
    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
        return self.shares.numpy(), self.contributions.numpy(), self.coverage.numpy()


def _of(outputs: Tensor, members: Tensor) -> Tensor:
    """The outputs of some members, given by number."""
    if not in_place(outputs):
        return outputs[members]
    memory = torch.from_numpy(room((len(members), *outputs.shape[1:]), np.float32, "members"))
    return torch.index_select(outputs, 0, members, out=memory)


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
