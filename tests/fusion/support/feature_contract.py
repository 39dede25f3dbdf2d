"""What every feature rule must do: inherit this in the rule's test and say how to make the rule."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from itertools import permutations, product

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from quorate.fusion import RULES, FeatureRule, Fused
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError, ShapeError
from quorate.fusion.loading import load_feature_rule

# M members, B batch

# Names that PyTorch modules have as attributes, and an order that is not the alphabet's.
WIDTHS = {"train": 4, "audio": 3, "type-2": 5}
MASKS = torch.tensor([pattern for pattern in product([True, False], repeat=3) if any(pattern)]).T.contiguous()


def features(widths: dict[str, int], batch: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(batch, width, generator=generator) for name, width in widths.items()}


def assert_same_bits(one: Fused, other: Fused) -> None:
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.contributions, other.contributions)
    assert torch.equal(one.coverage, other.coverage)


class FeatureContract(ABC):
    """Inherit, give ``make``."""

    widths = WIDTHS
    # Absent members leave exactly the rule of those that are left; False where a stand-in was learned for them.
    absent_is_left_out = False

    @abstractmethod
    def make(self, widths: dict[str, int]) -> FeatureRule: ...

    def trained(self, widths: dict[str, int]) -> FeatureRule:
        """A rule none of whose parameters is where it started."""
        torch.manual_seed(0)
        rule = self.make(widths)
        with torch.no_grad():
            for parameter in rule.parameters():
                parameter.add_(torch.randn_like(parameter) / 2)
        return rule.eval()

    def again(self, rule: FeatureRule, members: list[str]) -> FeatureRule:
        spec = json.loads(json.dumps(rule.to_spec(members)))
        state = load(save(rule.state())) or None
        assert RULES[spec["rule"]].reads == ("features",)
        return load_feature_rule(spec["rule"]).from_spec(spec["members"], spec.get("weights"), spec["options"], state)

    def test_answer_has_the_shapes_of_the_contract(self) -> None:
        rule = self.trained(self.widths)
        fused = rule.fuse(features(self.widths, 7), MASKS)
        assert fused.values.shape == (7, rule.width)
        assert fused.contributions.shape == (3, 7)
        assert fused.coverage.shape == (7,)
        assert {fused.values.dtype, fused.contributions.dtype, fused.coverage.dtype} == {torch.float32}
        assert torch.equal(rule(features(self.widths, 7), MASKS), fused.values)

    def test_contributions_sum_to_one_over_those_present_and_coverage_tells_who_is(self) -> None:
        fused = self.trained(self.widths).fuse(features(self.widths, 7), MASKS)
        torch.testing.assert_close(fused.contributions.sum(0), torch.ones(7))
        assert not fused.contributions[~MASKS].any()
        assert (fused.contributions >= 0).all()
        assert fused.coverage[0] == 1
        assert ((fused.coverage[1:] > 0) & (fused.coverage[1:] < 1)).all()

    def test_order_of_members_in_the_spec_and_in_the_call_changes_no_bit(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 7)
        expected = rule.fuse(given, MASKS)
        for order in permutations(range(3)):
            members = [rule.members[index] for index in order]
            moved = self.again(rule, members).fuse({name: given[name] for name in members}, MASKS[list(order)])
            kept = Fused(expected.values, expected.contributions[list(order)], expected.coverage)
            assert_same_bits(moved, kept)

    def test_every_parameter_gets_a_gradient(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 7)
        if not list(rule.parameters()):
            pytest.skip("this rule has no parameters")
        slope = torch.randn(7, rule.width)
        (rule(given, MASKS) * slope).sum().backward()
        for key, parameter in rule.named_parameters():
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
            # Rounding alone gives a dead parameter some 1e-8.
            assert (parameter.grad.abs() > 1e-5).any(), key

    def test_gradient_reaches_present_members_and_only_them(self) -> None:
        rule = self.trained(self.widths)
        given = {name: rows.requires_grad_() for name, rows in features(self.widths, 7).items()}
        rule(given, MASKS).square().sum().backward()
        for name, mask in zip(rule.members, MASKS, strict=True):
            gradient = given[name].grad
            assert gradient is not None
            assert gradient[mask].any(dim=1).all()
            assert not gradient[~mask].any()

    def test_what_stands_in_an_absent_row_never_shows(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 7)
        expected = rule.fuse(given, MASKS)
        for rubbish in (float("nan"), float("inf"), 1e30):
            spoiled = {
                name: torch.where(mask.unsqueeze(1), given[name], rubbish)
                for name, mask in zip(rule.members, MASKS, strict=True)
            }
            assert_same_bits(rule.fuse(spoiled, MASKS), expected)

    def test_row_with_nan_or_infinity_is_an_absent_row(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 7)
        for rubbish in (float("nan"), -float("inf")):
            spoiled = {name: rows.clone() for name, rows in given.items()}
            for name, mask in zip(rule.members, MASKS, strict=True):
                spoiled[name][~mask, -1] = rubbish
            assert_same_bits(rule.fuse(spoiled), rule.fuse(given, MASKS))

    def test_number_that_float32_cannot_hold_is_an_absent_row(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 7)
        masks = dict(zip(rule.members, MASKS, strict=True))
        huge = {name: rows.double().masked_fill(~masks[name].unsqueeze(1), 1e300) for name, rows in given.items()}
        assert_same_bits(rule.fuse(huge), rule.fuse(given, MASKS))

    def test_member_without_features_is_absent_in_every_row(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 4)
        for index, name in enumerate(rule.members):
            mask = torch.ones(3, 4, dtype=torch.bool).index_fill(0, torch.tensor(index), False)
            others = {other: rows for other, rows in given.items() if other != name}
            assert_same_bits(rule.fuse(others), rule.fuse(given, mask))

    def test_absent_member_changes_the_answer(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 7)
        full, masked = rule.fuse(given).values, rule.fuse(given, MASKS).values
        assert torch.equal(full[0], masked[0])
        assert (full[1:] != masked[1:]).any(dim=1).all()

    def test_one_member_alone_is_enough(self) -> None:
        name, width = next(iter(self.widths.items()))
        fused = self.trained({name: width}).fuse(features({name: width}, 4))
        assert torch.isfinite(fused.values).all()
        assert torch.equal(fused.contributions, torch.ones(1, 4))

    def test_spec_and_state_build_the_same_rule_again(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 7)
        again = self.again(rule, list(rule.members))
        assert type(again) is type(rule)
        assert again.to_spec(rule.members) == rule.to_spec(rule.members)
        assert_same_bits(again.fuse(given, MASKS), rule.fuse(given, MASKS))

    def test_state_of_other_members_is_refused(self) -> None:
        rule = self.trained(self.widths)
        if not rule.state():
            pytest.skip("this rule has learned nothing")
        widths = {name + "x": width for name, width in self.widths.items()}
        spec = self.make(widths).to_spec(list(widths))
        with pytest.raises(RuleOptionError, match="state"):
            type(rule).from_spec(spec["members"], spec.get("weights"), spec["options"], rule.state())

    def test_nobody_present_is_a_typed_error(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 7)
        with pytest.raises(QuorumError):
            rule.fuse(given, torch.zeros(3, 7, dtype=torch.bool))
        with pytest.raises(QuorumError):
            rule.fuse({})

    def test_wrong_shapes_and_strangers_are_typed_errors(self) -> None:
        rule, given = self.trained(self.widths), features(self.widths, 7)
        first = rule.members[0]
        with pytest.raises(ShapeError, match=f"features of {first}"):
            rule.fuse({**given, first: given[first][:, :-1]})
        with pytest.raises(ShapeError, match="features of"):
            rule.fuse({**given, first: given[first][:-1]})
        with pytest.raises(ShapeError, match="present"):
            rule.fuse(given, MASKS[:, :5])
        with pytest.raises(MemberCountError):
            rule.fuse(given, MASKS[:2])
        with pytest.raises(ShapeError, match=r"torch\.bool"):
            rule.fuse(given, MASKS.long())
        with pytest.raises(RuleOptionError, match="nobody"):
            rule.fuse({**given, "nobody": given[first]})

    def test_words_that_the_rule_cannot_use_are_refused(self) -> None:
        rule = self.trained(self.widths)
        members, spec = list(rule.members), rule.to_spec(rule.members)
        for options in (
            {**spec["options"], "no_such_option": 1},
            {**spec["options"], "widths": {**self.widths, members[0]: 0}},
            {**spec["options"], "widths": {members[0]: 4}},
            {key: value for key, value in spec["options"].items() if key != "widths"},
            *({key: value for key, value in spec["options"].items() if key != word} for word in rule.required),
        ):
            with pytest.raises(RuleOptionError):
                type(rule).from_spec(members, spec.get("weights"), options, rule.state() or None)
        with pytest.raises(RuleOptionError):
            rule.to_spec(members[:2])

    def test_absent_members_leave_the_rule_of_the_others(self) -> None:
        if not self.absent_is_left_out:
            pytest.skip("a learned stand-in takes their place")
        rule, given = self.trained(self.widths), features(self.widths, 7)
        fused = rule.fuse(given, MASKS)
        for row in range(7):
            kept = [name for name, there in zip(rule.members, MASKS[:, row], strict=True) if there]
            spec = rule.to_spec(rule.members)
            options = {**spec["options"], "widths": {name: self.widths[name] for name in kept}}
            weights = {name: spec["weights"][name] for name in kept} if "weights" in spec else None
            gone = tuple(f"member_{name}." for name in rule.members if name not in kept)
            state = {key: tensor for key, tensor in rule.state().items() if not any(word in key for word in gone)}
            left = type(rule).from_spec(kept, weights, options, state or None)
            values = left.fuse({name: given[name][row : row + 1] for name in kept}).values
            torch.testing.assert_close(fused.values[row], values[0])
