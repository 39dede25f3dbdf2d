"""Gated fusion: each feature of the answer chooses its member (Arevalo et al. 2017, "Gated multimodal units")."""

# M members, B batch, F_m features of member m, F features of the answer

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quorate.fusion.base import Fused, count_coverage
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.features.base import FeatureRule, StandIn, by_member


class GatedFusion(FeatureRule):
    """h = sum of z_m * tanh(W_m x_m), gates z = softmax over present members of V [x_1 .. x_M].

    With two members the softmax is the paper's sigmoid. The gates read a learned stand-in for an absent member, so that
    who is missing can change whom they trust; its own gate is closed. A member's contribution is its mean gate.
    """

    name = "gated_fusion"
    required = ("width",)

    def __init__(self, widths: Mapping[str, int], width: int):
        """Args:
        widths: number of features by member.
        width: F.
        """
        super().__init__(widths)
        if type(width) is not int or width < 1:
            raise RuleOptionError(self.name, "width", width, "give a number of features")
        self.width = width
        self.adapters = by_member({name: nn.Linear(self.widths[name], width) for name in self._canonical})
        self.stand_ins = by_member({name: StandIn(self.widths[name]) for name in self._canonical})
        self.gate = nn.Linear(sum(self.widths.values()), len(self.members) * width)

    def options(self) -> dict[str, Any]:
        return {"width": self.width}

    def _fuse(self, rows: list[Tensor], present: Tensor) -> Fused:
        hidden = [torch.tanh(adapter(row)) for adapter, row in zip(self.adapters.values(), rows, strict=True)]
        seen = [stand_in(row, mask) for stand_in, row, mask in zip(self.stand_ins.values(), rows, present, strict=True)]
        scores = self.gate(torch.cat(seen, dim=1)).view(-1, len(rows), self.width)  # (B, M, F)
        gates = scores.masked_fill(~present.T.unsqueeze(-1), -math.inf).softmax(dim=1)
        values = (gates * torch.stack(hidden, dim=1)).sum(dim=1)
        return Fused(values, gates.mean(dim=-1).T, count_coverage(present))
