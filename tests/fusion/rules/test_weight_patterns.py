"""Weights for who is there, whatever the rule is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quorate.fusion import GeometricMean, Rule, WeightedMean
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.loading import build_rule
from quorate.fusion.registry import RULES
from quorate.fusion.rules.weight_patterns import Patterned
from tests.fusion.support.contract import FusionContract, assert_same_bits, every_mask, names


def one_missing(num_members: int) -> list[dict[int, float]]:
    """A pattern for every set that one member is missing from."""
    return [
        {member: 1.0 + (member - gone) ** 2 for member in range(num_members) if member != gone}
        for gone in range(num_members)
        if num_members > 1
    ]


class TestWeightedMeanWithPatterns(FusionContract):
    """The contract, with other weights in every row that one member is missing from."""

    def make(self, num_members: int) -> Rule:
        return Patterned(WeightedMean([0.1 * (index + 1) for index in range(num_members)]), one_missing(num_members))

    def only(self, rule: Rule, kept: list[int]) -> Rule:
        """Over fewer members: the pattern's weights are the weights."""
        spec = rule.to_spec(names(rule.num_members))
        members = [f"member{index}" for index in kept]
        if len(kept) == rule.num_members:
            return build_rule("weighted_mean", members, spec["weights"], spec["options"])
        found = [pattern for pattern in spec["options"]["patterns"] if set(pattern) == set(members)]
        weights = found[0] if found else {member: spec["weights"][member] for member in members}
        return build_rule("weighted_mean", members, weights, {})

    def test_option_that_the_rule_does_not_read_is_refused(self) -> None:
        with pytest.raises(RuleOptionError, match="no_such_option"):
            build_rule(
                "weighted_mean", ["a", "b"], {"a": 1.0, "b": 1.0}, {"patterns": [{"a": 1.0}], "no_such_option": 1}
            )

    def test_member_of_weight_zero_is_skipped_whatever_it_says(self) -> None:
        outputs = self.outputs(3, 2)
        rule = Patterned(WeightedMean([0.5, 0.0, 0.5]), [{0: 1.0}])
        for said in (0.0, 1e30, float("nan")):
            fused = rule.fuse(outputs.index_fill(0, torch.tensor(1), said), every_mask(3)[:, [0, 2]])
            assert not fused.contributions[1].any()
            assert fused.coverage.tolist() == [1.0, 1.0]


def test_a_row_is_fused_with_the_weights_of_exactly_those_that_answered() -> None:
    options = {"patterns": [{"a": 0.9, "b": 0.1}, {"c": 1.0, "b": 0.0}]}
    rule = build_rule("weighted_mean", ["a", "b", "c"], {"a": 1.0, "b": 1.0, "c": 2.0}, options)
    outputs = torch.rand(3, 4, 5)
    present = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 0], [1, 0, 1, 1]], dtype=torch.bool)
    fused = rule.fuse(outputs, present)
    weights = [[0.25, 0.25, 0.5], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0], [1 / 3, 0.0, 2 / 3]]
    for row, shares in enumerate(weights):
        expected = np.average(outputs[:, row].numpy(), axis=0, weights=shares)
        np.testing.assert_allclose(fused.values[row], expected, rtol=1e-6)
        np.testing.assert_allclose(fused.contributions[:, row], shares, rtol=1e-6)
    np.testing.assert_allclose(fused.coverage, [1.0, 0.5, 0.75, 0.75])  # of the full weights: who is missing shows


@pytest.mark.parametrize("rule", [name for name, entry in RULES.items() if "patterns" in entry.options])
def test_every_rule_that_gives_probabilities_takes_patterns(rule: str) -> None:
    if RULES[rule].learned:
        pytest.skip("its state has a test of its own")
    members, weights = ["a", "b", "c"], {"a": 0.5, "b": 1.0, "c": 0.5}
    given = weights if RULES[rule].weighted else None
    options = {"log_evidence": dict.fromkeys(members, -1.0)} if rule == "bayesian_model_averaging" else {}
    plain = build_rule(rule, members, given, options)
    patterned = build_rule(rule, members, given, {**options, "patterns": [{"a": 3.0, "c": 1.0}]})
    outputs = torch.rand(3, 4, 5).softmax(dim=-1)
    present = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1]], dtype=torch.bool)
    fused, without = patterned.fuse(outputs, present), plain.fuse(outputs, present)
    torch.testing.assert_close(fused.values[1], 0.75 * outputs[0, 1] + 0.25 * outputs[2, 1])
    assert torch.equal(fused.values[[0, 2, 3]], without.values[[0, 2, 3]])
    assert torch.equal(fused.coverage, without.coverage)
    assert_same_bits(patterned.fuse(outputs), plain.fuse(outputs))


def test_a_pattern_is_written_and_read_beside_the_rules_own_options() -> None:
    rule = Patterned(GeometricMean(2, floor=1e-3), [{1: 2.0}])
    spec = rule.to_spec(["a", "b"])
    assert spec["options"] == {"floor": 1e-3, "patterns": [{"b": 2.0}]}
    again = build_rule(spec["rule"], spec["members"], spec.get("weights"), spec["options"])
    assert again.to_spec(["a", "b"]) == spec


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
    with pytest.raises(RuleOptionError, match=f"weighted_mean: patterns is .*{said}"):
        build_rule("weighted_mean", ["a", "b", "m"], {"a": 1.0, "b": 1.0, "m": 0.0}, {"patterns": patterns})


def test_rules_whose_answers_are_no_probabilities_take_none() -> None:
    for rule in ("threshold", "mixture_moments", "concat"):
        assert "patterns" not in RULES[rule].options
