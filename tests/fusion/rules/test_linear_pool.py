"""Mean and weighted mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quorate.fusion import Mean, Rule, WeightedMean
from quorate.fusion.errors import RuleOptionError
from tests.fusion.support.contract import FusionContract, every_mask, names


class TestMean(FusionContract):
    def make(self, num_members: int) -> Rule:
        return Mean(num_members)


class TestWeightedMean(FusionContract):
    def make(self, num_members: int) -> Rule:
        return WeightedMean([0.1 * (index + 1) for index in range(num_members)])


class TestWeightedMeanWithPatterns(FusionContract):
    """The contract, with other weights in every row that one member is missing from."""

    def make(self, num_members: int) -> Rule:
        weights = [0.1 * (index + 1) for index in range(num_members)]
        patterns = [
            {member: 1.0 + (member - gone) ** 2 for member in range(num_members) if member != gone}
            for gone in range(num_members)
            if num_members > 1
        ]
        return WeightedMean(weights, patterns)

    def only(self, rule: Rule, kept: list[int]) -> Rule:
        """Over fewer members: the pattern's weights are the weights."""
        spec = rule.to_spec(names(rule.num_members))
        members = [f"member{index}" for index in kept]
        if len(kept) == rule.num_members:
            return type(rule).from_spec(members, spec["weights"], spec.get("options", {}))
        found = [pattern for pattern in spec.get("options", {}).get("patterns", ()) if set(pattern) == set(members)]
        weights = found[0] if found else {member: spec["weights"][member] for member in members}
        return type(rule).from_spec(members, weights, {})

    def test_member_of_weight_zero_is_skipped_whatever_it_says(self) -> None:
        outputs = self.outputs(3, 2)
        rule = WeightedMean([0.5, 0.0, 0.5], [{0: 1.0}])
        for said in (0.0, 1e30, float("nan")):
            fused = rule.fuse(outputs.index_fill(0, torch.tensor(1), said), every_mask(3)[:, [0, 2]])
            assert not fused.contributions[1].any()
            assert fused.coverage.tolist() == [1.0, 1.0]


def test_a_row_is_fused_with_the_weights_of_exactly_those_that_answered() -> None:
    options = {"patterns": [{"a": 0.9, "b": 0.1}, {"c": 1.0, "b": 0.0}]}
    rule = WeightedMean.from_spec(["a", "b", "c"], {"a": 1.0, "b": 1.0, "c": 2.0}, options)
    outputs = torch.rand(3, 4, 5)
    present = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 0], [1, 0, 1, 1]], dtype=torch.bool)
    fused = rule.fuse(outputs, present)
    weights = [[0.25, 0.25, 0.5], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0], [1 / 3, 0.0, 2 / 3]]
    for row, shares in enumerate(weights):
        expected = np.average(outputs[:, row].numpy(), axis=0, weights=shares)
        np.testing.assert_allclose(fused.values[row], expected, rtol=1e-6)
        np.testing.assert_allclose(fused.contributions[:, row], shares, rtol=1e-6)
    np.testing.assert_allclose(fused.coverage, [1.0, 0.5, 0.75, 0.75])  # of the full weights: who is missing shows


def test_shares_of_more_sets_of_members_than_are_kept_are_right() -> None:
    rule, outputs, masks = WeightedMean([1.0 + index for index in range(9)]), torch.rand(9, 2, 3), every_mask(9)
    together = rule.fuse(outputs[:, :1].expand(-1, masks.shape[1], -1), masks)
    for _ in range(2):
        for row in range(masks.shape[1]):
            fused = rule.fuse(outputs, masks[:, row : row + 1].expand(-1, 2))
            assert torch.equal(fused.values[0], together.values[row])
            assert torch.equal(fused.coverage[1], together.coverage[row])


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ({"a": 1.0}, "give a list of mappings"),
        ([{}], "give a list of mappings"),
        ([{"a": "much"}], "give a list of mappings"),
        ([{"a": True}], "give a list of mappings"),
        ([{"z": 1.0}], "name only members that are asked"),
        ([{"a": 1.0, "b": 2.0}], "not all"),
        ([{"m": 1.0}], "weight above 0"),
        ([{"a": 1.0}, {"a": 2.0}], "once"),
        ([{"a": 0.0}], "above 0"),
        ([{"a": float("nan")}], "above 0"),
    ],
)
def test_patterns_no_row_can_have_are_refused(patterns: object, said: str) -> None:
    with pytest.raises(RuleOptionError, match=said):
        WeightedMean.from_spec(["a", "b", "m"], {"a": 1.0, "b": 1.0, "m": 0.0}, {"patterns": patterns})
