"""Concatenation of features: nothing is lost, and the head that reads it learns who matters."""

# M members, B batch, F_m features of member m

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from quorate.fusion.base import Fused, count_coverage
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.features.base import FeatureRule, StandIn, by_member


class Concat(FeatureRule):
    """Members' features side by side, a learned stand-in (zeros before training) where a member is absent.

    A member's contribution is its share of the columns that present members fill.
    """

    name = "concat"

    def __init__(self, widths: Mapping[str, int], layout: Sequence[str] | None = None):
        """Args:
        widths: number of features by member.
        layout: every member once, in the order of its columns; as in ``widths`` when left out. Part of the
            spec: listing the members in another order later does not move columns under a trained head.
        """
        super().__init__(widths)
        self.layout = self.members if layout is None else tuple(layout) if isinstance(layout, (list, tuple)) else ()
        if sorted(self.layout) != self._canonical:
            raise RuleOptionError(self.name, "layout", layout, f"name each of {', '.join(self.members)} once")
        self.width = sum(self.widths.values())
        self.stand_ins = by_member({name: StandIn(width) for name, width in self.widths.items()})

    def options(self) -> dict[str, Any]:
        return {"layout": list(self.layout)}

    def _must_learn(self) -> bool:
        return False

    def _fuse(self, rows: list[Tensor], present: Tensor) -> Fused:
        parts = zip(self._canonical, self.stand_ins.values(), rows, present, strict=True)
        filled = {name: stand_in(row, mask) for name, stand_in, row, mask in parts}
        values = torch.cat([filled[name] for name in self.layout], dim=1)
        columns = torch.tensor([float(row.shape[1]) for row in rows], device=present.device).unsqueeze(1) * present
        return Fused(values, columns / columns.sum(dim=0), count_coverage(present))
