"""Mean and weighted mean: the linear opinion pool (Stone 1961, "The Opinion Pool")."""

# M members, B batch, C classes

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from quorate.fusion.base import Fused, Rule
from quorate.fusion.errors import QuorumError, RuleOptionError
from quorate.fusion.summation import sum_members


class WeightedMean(Rule):
    """Sum of w_m p_m over the members that answered, their weights rescaled to sum to one."""

    name = "weighted_mean"

    def __init__(self, weights: Sequence[float]):
        if not weights or any(not math.isfinite(w) or w < 0 for w in weights):
            raise RuleOptionError(self.name, "weights", list(weights), "give each member a finite weight >= 0")
        if sum(weights) <= 0:
            raise RuleOptionError(self.name, "weights", list(weights), "give at least one member a weight above 0")
        self.num_members = len(weights)
        self.spec_weights = list(weights)
        self.weights = torch.tensor(weights, dtype=torch.float64)

    @classmethod
    def _build(cls, num_members: int, weights: list[float] | None, options: Mapping[str, Any]) -> Rule:
        return cls([1.0] * num_members if weights is None else weights)

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        weights = self.weights.unsqueeze(1) * present  # (M, B)
        total = sum_members(weights)  # (B,)
        if bool((total <= 0).any()):
            raise QuorumError("one member with weight above 0 in every row", "a row without any")
        share = weights / total
        values = sum_members(share.unsqueeze(-1) * outputs)
        return Fused(values.float(), share.float(), (total / sum_members(self.weights)).float())


class Mean(WeightedMean):
    """Every member that answered counts the same."""

    name = "mean"

    def __init__(self, num_members: int):
        super().__init__([1.0] * num_members)
        self.spec_weights = None

    @classmethod
    def _build(cls, num_members: int, weights: list[float] | None, options: Mapping[str, Any]) -> Rule:
        return cls(num_members)
