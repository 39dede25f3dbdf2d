"""Mean and weighted mean."""

from __future__ import annotations

import torch

from quorate.fusion import Mean, Rule, WeightedMean
from tests.fusion.support.contract import FusionContract, every_mask


class TestMean(FusionContract):
    def make(self, num_members: int) -> Rule:
        return Mean(num_members)


class TestWeightedMean(FusionContract):
    def make(self, num_members: int) -> Rule:
        return WeightedMean([0.1 * (index + 1) for index in range(num_members)])


def test_shares_of_more_sets_of_members_than_are_kept_are_right() -> None:
    rule, outputs, masks = WeightedMean([1.0 + index for index in range(9)]), torch.rand(9, 2, 3), every_mask(9)
    together = rule.fuse(outputs[:, :1].expand(-1, masks.shape[1], -1), masks)
    for _ in range(2):
        for row in range(masks.shape[1]):
            fused = rule.fuse(outputs, masks[:, row : row + 1].expand(-1, 2))
            assert torch.equal(fused.values[0], together.values[row])
            assert torch.equal(fused.coverage[1], together.coverage[row])
