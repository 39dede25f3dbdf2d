"""Every closed-form rule obeys the contract."""

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion import (
    BayesianModelAveraging,
    BayesianModelCombination,
    Borda,
    DempsterShafer,
    GeometricMean,
    InverseVariance,
    MajorityVote,
    Maximum,
    Median,
    Minimum,
    MixtureMoments,
    Product,
    QuantileAverage,
    QuantileMedian,
    ReciprocalRank,
    RegressionMedian,
    Rule,
    SoftVote,
    Threshold,
    TrimmedMean,
    WeightedVote,
)
from tests.fusion.support.contract import FusionContract, names


def rising(num_members: int) -> list[float]:
    return [0.1 * (index + 1) for index in range(num_members)]


class TestGeometricMean(FusionContract):
    def make(self, num_members: int) -> Rule:
        return GeometricMean(num_members, rising(num_members))


class TestProduct(FusionContract):
    def make(self, num_members: int) -> Rule:
        return Product(num_members)


class TestMaximum(FusionContract):
    def make(self, num_members: int) -> Rule:
        return Maximum(num_members)


class TestMinimum(FusionContract):
    def make(self, num_members: int) -> Rule:
        return Minimum(num_members)


class TestMedian(FusionContract):
    def make(self, num_members: int) -> Rule:
        return Median(num_members)


class TestTrimmedMean(FusionContract):
    def make(self, num_members: int) -> Rule:
        return TrimmedMean(num_members, proportion=0.34)


class TestMajorityVote(FusionContract):
    differentiable = False
    one_member_is_itself = False

    def make(self, num_members: int) -> Rule:
        return MajorityVote(num_members, tie="mean_probability")


class TestWeightedVote(FusionContract):
    differentiable = False
    one_member_is_itself = False

    def make(self, num_members: int) -> Rule:
        return WeightedVote(rising(num_members), tie="heaviest_voter")


class TestSoftVote(FusionContract):
    def make(self, num_members: int) -> Rule:
        return SoftVote(num_members, rising(num_members))


class TestSoftVoteThatAbstains(FusionContract):
    def make(self, num_members: int) -> Rule:
        return SoftVote(num_members, tie="abstain")


class TestMajorityVoteThatAbstains(FusionContract):
    differentiable = False
    one_member_is_itself = False

    def make(self, num_members: int) -> Rule:
        return MajorityVote(num_members, tie="abstain")


class TestThreshold(FusionContract):
    sums_to_one = False
    differentiable = False
    one_member_is_itself = False

    def make(self, num_members: int) -> Rule:
        return Threshold(num_members, rising(num_members), threshold=[0.1, 0.2, 0.3, 0.4, 0.5], reject=True)


class TestThresholdOfOneOrMore(FusionContract):
    sums_to_one = False
    differentiable = False
    one_member_is_itself = False

    def make(self, num_members: int) -> Rule:
        return Threshold(num_members, threshold=0.6, at_least=1)


class TestBorda(FusionContract):
    differentiable = False
    one_member_is_itself = False

    def make(self, num_members: int) -> Rule:
        return Borda(num_members, rising(num_members))


class TestReciprocalRank(FusionContract):
    differentiable = False
    one_member_is_itself = False

    def make(self, num_members: int) -> Rule:
        return ReciprocalRank(num_members, k=10)


class TestBayesianModelAveraging(FusionContract):
    def make(self, num_members: int) -> Rule:
        return BayesianModelAveraging([-1000.0 - index for index in range(num_members)], rising(num_members))

    def only(self, rule: Rule, kept: list[int]) -> Rule:
        spec = rule.to_spec(names(rule.num_members))
        members = [f"member{index}" for index in kept]
        evidence = {member: spec["options"]["log_evidence"][member] for member in members}
        weights = {member: spec["weights"][member] for member in members}
        return type(rule).from_spec(members, weights, {"log_evidence": evidence})


class TestBayesianModelCombination(FusionContract):
    def make(self, num_members: int) -> Rule:
        return BayesianModelCombination(rising(num_members))


class TestDempsterShafer(FusionContract):
    one_member_is_itself = False

    def make(self, num_members: int) -> Rule:
        return DempsterShafer(num_members, rising(num_members))


class TestDempsterShaferOfReliableMembers(FusionContract):
    def make(self, num_members: int) -> Rule:
        return DempsterShafer(num_members)


class RegressionContract(FusionContract):
    sums_to_one = False
    num_classes = 6

    def outputs(self, num_members: int, batch: int, seed: int = 0) -> Tensor:
        return 5 * torch.randn(num_members, batch, 6, generator=torch.Generator().manual_seed(seed))


class MomentsContract(RegressionContract):
    def outputs(self, num_members: int, batch: int, seed: int = 0) -> Tensor:
        means, logs = super().outputs(num_members, batch, seed).chunk(2, dim=-1)
        return torch.cat([means, (logs / 5).exp()], dim=-1)


class TestRegressionMedian(RegressionContract):
    def make(self, num_members: int) -> Rule:
        return RegressionMedian(num_members)


class TestQuantileAverage(RegressionContract):
    def make(self, num_members: int) -> Rule:
        return QuantileAverage(num_members, rising(num_members))

    def outputs(self, num_members: int, batch: int, seed: int = 0) -> Tensor:
        return super().outputs(num_members, batch, seed).sort(dim=-1).values


class TestQuantileMedian(RegressionContract):
    def make(self, num_members: int) -> Rule:
        return QuantileMedian(num_members)

    def outputs(self, num_members: int, batch: int, seed: int = 0) -> Tensor:
        return super().outputs(num_members, batch, seed).sort(dim=-1).values


class TestInverseVariance(MomentsContract):
    def make(self, num_members: int) -> Rule:
        return InverseVariance(num_members, rising(num_members))


class TestMixtureMoments(MomentsContract):
    def make(self, num_members: int) -> Rule:
        return MixtureMoments(num_members, rising(num_members))
