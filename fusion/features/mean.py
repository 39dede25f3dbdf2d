"""Mean of features, after a linear adapter for each member where widths differ."""

# M members, B batch, F_m features of member m, F features of the answer

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quorate.fusion.base import Fused
from quorate.fusion.errors import QuorumError, RuleOptionError
from quorate.fusion.features.base import FeatureRule, by_member


class FeatureMean(FeatureRule):
    """Sum of w_m A_m(x_m) over the members that answered, their weights rescaled to sum to one.

    An absent member needs no stand-in: the mean of the others takes its place. Weights that are given are trained with
    what else is: their logarithms, so that they stay above 0, and one of 0 stays 0.
    """

    name = "feature_mean"
    of_spec = ("log_weights",)
    log_weights: Tensor

    def __init__(self, widths: Mapping[str, int], weights: Mapping[str, float] | None = None, width: int | None = None):
        """Args:
        widths: number of features by member.
        weights: finite, >= 0, by member; equal when left out.
        width: number of features of the answer: every member gets a linear adapter to it. Left out, widths must be
            equal and features are averaged as they are.
        """
        super().__init__(widths)
        self._check(weights, width)
        shares = [1.0 if weights is None else float(weights[name]) for name in self._canonical]
        logs = torch.tensor(shares, dtype=torch.float64).log()
        if weights is None:
            self.register_buffer("log_weights", logs, persistent=False)
        else:
            self.log_weights = nn.Parameter(logs)
        self.adapted, self.width = width is not None, width or self.widths[self._canonical[0]]
        adapters = {name: nn.Linear(self.widths[name], self.width) for name in self._canonical if self.adapted}
        self.adapters = by_member(adapters)

    def _check(self, weights: Mapping[str, float] | None, width: int | None) -> None:
        if weights is not None:
            values = list(weights.values())
            usable = all(math.isfinite(w) and w >= 0 for w in values) and sum(values) > 0
            if sorted(weights) != self._canonical or not usable:
                fix = f"give each of {', '.join(self.members)} a finite weight >= 0, one of them above 0"
                raise RuleOptionError(self.name, "weights", dict(weights), fix)
        if width is None and len(set(self.widths.values())) > 1:
            raise RuleOptionError(self.name, "widths", self.widths, "give width, so that adapters make them equal")
        if width is not None and (type(width) is not int or width < 1):
            raise RuleOptionError(self.name, "width", width, "give a number of features")

    @property
    def spec_weights(self) -> dict[str, float] | None:
        if not isinstance(self.log_weights, nn.Parameter):
            return None
        # The logarithm of 0.3 is that of a number next to it.
        return {
            name: float(f"{w:.12g}") for name, w in zip(self._canonical, self.log_weights.exp().tolist(), strict=True)
        }

    def options(self) -> dict[str, Any]:
        return {"width": self.width} if self.adapted else {}

    def _fuse(self, rows: list[Tensor], present: Tensor) -> Fused:
        own = self.log_weights.exp()
        weights = own.unsqueeze(1) * present  # (M, B)
        total = weights.sum(dim=0)
        if bool((total <= 0).any()):
            raise QuorumError("one member with weight above 0 in every row", "a row without any")
        share = weights / total
        if self.adapted:
            rows = [adapter(row) for adapter, row in zip(self.adapters.values(), rows, strict=True)]
        # A huge row of a member of weight 0 must not meet its factor: 0 * inf after the adapter is NaN.
        used = torch.where((share > 0).unsqueeze(-1), torch.stack(rows).double(), 0.0)
        values = (share.unsqueeze(-1) * used).sum(dim=0)
        return Fused(values.float(), share.float(), (total / own.sum()).float())
