"""Which member counts how much in a row: what every closed-form rule builds on."""

# M members, B batch, C classes

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.fusion.base import Fused, FusedArrays, Rule
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError
from quorate.fusion.numerics.tracing import for_numpy, require, surely, tracing
from quorate.fusion.numerics.weighted_sum import weighted_sum, weighted_sum_of_arrays

# Sets of members whose shares are kept: a few members late in turn, not every set of twenty.
_MOST_SETS = 256
# Shares (M,) or (M, B) float64; contributions (M, 1) or (M, B) and coverage (1,) or (B,) float32.
_Shares = tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]
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

        Rounding alone must not take coverage off one: it is one exactly where nobody with weight is missing.
        """
        if tracing() or present.device.type != "cpu":
            return self._rescaled_in_graph(present)
        # numpy takes a quarter of torch's time for so few numbers, and a fusion with a member missing is mostly this.
        there, own = present.numpy(), self.shares.numpy()[:, None]
        taking_part = own * there
        coverage = taking_part.cumsum(axis=0)[-1]  # one by one, as sum does not add up a single row
        if not coverage.all():
            raise QuorumError(*_NOBODY)
        coverage32 = coverage.astype(np.float32)
        coverage32[(there | (own == 0)).all(axis=0)] = 1.0
        return torch.from_numpy(taking_part / coverage), torch.from_numpy(coverage32)

    def _rescaled_in_graph(self, present: Tensor) -> tuple[Tensor, Tensor]:
        own = self.shares.to(present.device).unsqueeze(1)
        taking_part = own * present
        coverage = taking_part.sum(dim=0)
        require(coverage > 0, *_NOBODY)
        everyone = (present | (own == 0)).all(dim=0)
        return taking_part / coverage, torch.where(everyone, 1.0, coverage.float())


class WeightedRule(WeightedMembers):
    """A rule that is a formula of the outputs and their shares; a member contributes its share.

    Attributes:
        linear: values are nothing but sums of share times output: an output that is not finite shows in them, so that
            looking at those is enough, and whatever finite numbers stand in an absent row count nothing.
    """

    linear: ClassVar[bool] = False

    def __init__(self, num_members: int, weights: Sequence[float] | None = None):
        super().__init__(num_members, weights)
        self._kept: dict[bytes, _Shares] = {}
        self._complete = (self.shares.numpy(), self._contributions.numpy(), np.ones(1, dtype=np.float32))

    def fuse_arrays(self, outputs: NDArray[np.float32], present: NDArray[np.bool_] | None = None) -> FusedArrays:
        """``fuse`` of NumPy's arrays, without a gradient; the same to the bit.

        A linear rule leaves torch alone: for three members, a row and ten classes that takes 13 us instead of 35, and
        where others have used the processor's caches meanwhile, as in a server that is asked now and then, 100 us
        instead of 400 (one core of an x86-64 server, 2026-11-25).
        """
        usable = self.linear and outputs.ndim == 3 and outputs.size and len(outputs) == self.num_members
        if usable and (present is None or (present.dtype == np.bool_ and present.shape == outputs.shape[:2])):
            fused = self._fuse_linear(outputs, present)
            if fused is not None:
                return fused
        return super().fuse_arrays(outputs, present)

    def _fuse_checked(self, outputs: Tensor, present: Tensor | None) -> Fused:
        if self.linear and for_numpy(outputs):
            found = self._fuse_linear(outputs.detach().numpy(), None if present is None else present.numpy())
            if found is not None:
                return Fused(*(torch.from_numpy(part) for part in (found.values, found.contributions, found.coverage)))
        return super()._fuse_checked(outputs, present)

    def _fuse_linear(self, outputs: NDArray[np.float32], present: NDArray[np.bool_] | None) -> FusedArrays | None:
        """Fuse checked input of a linear rule; None where some output is not finite, if only in an absent row."""
        shares, contributions, coverage = self._shares_of(present)
        values = weighted_sum_of_arrays(shares, outputs)
        if not np.isfinite(values).all():
            return None
        if shares.ndim == 1:
            batch = outputs.shape[1]
            if batch == 1:
                contributions, coverage = contributions.copy(), coverage.copy()
            else:
                contributions, coverage = contributions.repeat(batch, axis=1), coverage.repeat(batch)
        return FusedArrays(values, contributions, coverage)

    def _shares_of(self, present: NDArray[np.bool_] | None) -> _Shares:
        """Shares, contributions and coverage of those present; kept where the same are in all rows, as in most."""
        if present is None:
            return self._complete
        first = present[:, :1]
        if not (present == first).all():
            shares, coverage = (part.numpy() for part in self._rescaled(torch.from_numpy(present)))
            return shares, shares.astype(np.float32), coverage
        members = first.tobytes()
        if members not in self._kept:
            if len(self._kept) >= _MOST_SETS:
                self._kept.clear()
            shares, coverage = (part.numpy() for part in self._rescaled(torch.from_numpy(first)))
            self._kept[members] = (shares[:, 0], shares.astype(np.float32), coverage)
        return self._kept[members]

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        shares, coverage = self._rescaled(present)
        values, abstained = self._decide(outputs, shares, present)
        return Fused(values, shares.float(), coverage, abstained)

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
    return weighted_sum(shares, outputs).float()


def normalise(values: Tensor, outputs: Tensor, shares: Tensor) -> Tensor:
    """Let rows sum to one; a row in which no class is left takes the members' mean instead."""
    total = values.sum(dim=-1, keepdim=True)
    if surely(total > 0):
        return values / total
    values = torch.where(total > 0, values, pool(outputs, shares))
    total = values.sum(dim=-1, keepdim=True)
    return values / torch.where(total > 0, total, 1.0)
