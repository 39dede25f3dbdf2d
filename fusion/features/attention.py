"""Attention over members' features: a learned query asks, members answer (Vaswani et al. 2017, section 3.2)."""

# M members, B batch, F_m features of member m, F features of the answer, H heads, D = F / H

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quorate.fusion.base import Fused, count_coverage
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.features.base import FeatureRule, by_member


class FeatureAttention(FeatureRule):
    """Scaled dot-product attention of H learned queries over one token for each member.

    A token is a linear adapter of the member's features, whose bias tells the members apart. An absent member is masked
    out before the softmax. A member's contribution is its attention, averaged over heads. Keys and values have no bias:
    a key's would shift all scores alike and never get a gradient, a value's is the output's.
    """

    name = "feature_attention"
    required = ("width",)

    def __init__(self, widths: Mapping[str, int], width: int, heads: int = 1):
        """Args:
        widths: number of features by member.
        width: F.
        heads: H, a divisor of F.
        """
        super().__init__(widths)
        if type(width) is not int or width < 1:
            raise RuleOptionError(self.name, "width", width, "give a number of features")
        if type(heads) is not int or heads < 1 or width % heads:
            raise RuleOptionError(self.name, "heads", heads, f"give a divisor of width {width}")
        self.width, self.heads = width, heads
        self.adapters = by_member({name: nn.Linear(self.widths[name], width) for name in self._canonical})
        self.query = nn.Parameter(torch.randn(heads, width // heads))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)

    def options(self) -> dict[str, Any]:
        return {"width": self.width, "heads": self.heads}

    def _fuse(self, rows: list[Tensor], present: Tensor) -> Fused:
        tokens = torch.stack([adapter(row) for adapter, row in zip(self.adapters.values(), rows, strict=True)], dim=1)
        heads = (*tokens.shape[:2], self.heads, self.width // self.heads)
        keys = self.key(tokens).view(*heads)  # (B, M, H, D)
        values = self.value(tokens).view(*heads)
        scores = (keys * self.query).sum(dim=-1) / math.sqrt(keys.shape[-1])  # (B, M, H)
        attention = scores.masked_fill(~present.T.unsqueeze(-1), -math.inf).softmax(dim=1)
        mixed = (attention.unsqueeze(-1) * values).sum(dim=1).flatten(1)
        return Fused(self.out(mixed), attention.mean(dim=-1).T, count_coverage(present))
