"""Mean and weighted mean."""

from __future__ import annotations

from quorate.fusion import Mean, Rule, WeightedMean
from tests.fusion.contract import FusionContract


class TestMean(FusionContract):
    def make(self, num_members: int) -> Rule:
        return Mean(num_members)


class TestWeightedMean(FusionContract):
    def make(self, num_members: int) -> Rule:
        return WeightedMean([0.1 * (index + 1) for index in range(num_members)])
