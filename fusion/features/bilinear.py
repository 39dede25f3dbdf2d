"""Low-rank bilinear fusion: products between members' features, without the outer product's size.

Kim et al. 2017 (ICLR, "Hadamard product for low-rank bilinear pooling") for two members; Liu et al. 2018 (ACL,
"Efficient low-rank multimodal fusion"), equation 7, for any number.
"""

# M members, B batch, F_m features of member m, F features of the answer, R rank

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quorate.fusion.base import Fused, count_coverage, equal_shares
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.features.base import FeatureRule, StandIn, by_member


class BilinearFusion(FeatureRule):
    """h = sum over r of the product over m of (W_m,r x_m + b_m,r), plus a bias.

    The factors' own bias is the paper's 1 appended to each x_m: products over fewer members are in it too. A learned
    stand-in takes an absent member's place in the product. Every present member is a factor of every feature, so that
    contributions are equal.
    """

    name = "bilinear_fusion"
    required = ("width",)

    def __init__(self, widths: Mapping[str, int], width: int, rank: int = 4):
        """Args:
        widths: number of features by member.
        width: F.
        rank: R.
        """
        super().__init__(widths)
        for option, value in (("width", width), ("rank", rank)):
            if type(value) is not int or value < 1:
                raise RuleOptionError(self.name, option, value, "give a whole number of 1 or more")
        self.width, self.rank = width, rank
        self.factors = by_member({name: nn.Linear(self.widths[name], rank * width) for name in self._canonical})
        self.stand_ins = by_member({name: StandIn(self.widths[name]) for name in self._canonical})
        self.bias = nn.Parameter(torch.zeros(width))

    def options(self) -> dict[str, Any]:
        return {"width": self.width, "rank": self.rank}

    def _fuse(self, rows: list[Tensor], present: Tensor) -> Fused:
        parts = zip(self.factors.values(), self.stand_ins.values(), rows, present, strict=True)
        product = torch.stack([factor(stand_in(row, mask)) for factor, stand_in, row, mask in parts]).prod(dim=0)
        values = product.view(-1, self.rank, self.width).sum(dim=1) + self.bias
        return Fused(values, equal_shares(present), count_coverage(present))
