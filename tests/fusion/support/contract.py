"""What every output rule must do: inherit this in the rule's test and say how to make the rule."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from quorate.fusion import Fused, Rule
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError, ShapeError
from quorate.fusion.loading import build_rule

# M members, B batch, C classes


def names(num_members: int) -> list[str]:
    return [f"member{index}" for index in range(num_members)]


def assert_same_bits(one: Fused, other: Fused) -> None:
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.contributions, other.contributions)
    assert torch.equal(one.coverage, other.coverage)
    assert (one.abstained is None) == (other.abstained is None)
    if one.abstained is not None and other.abstained is not None:
        assert torch.equal(one.abstained, other.abstained)


def assert_close(one: Fused, other: Fused) -> None:
    """Equal but for rounding, which is all that the order of members may change."""
    for mine, yours in ((one.values, other.values), (one.contributions, other.contributions)):
        torch.testing.assert_close(mine, yours, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.coverage, other.coverage, rtol=1e-6, atol=1e-6)
    assert (one.abstained is None) == (other.abstained is None)
    if one.abstained is not None and other.abstained is not None:
        assert torch.equal(one.abstained, other.abstained)


def every_mask(num_members: int) -> Tensor:
    """(M, 2**M - 1) bool, every pattern of who answered but nobody."""
    patterns = [pattern for pattern in product([True, False], repeat=num_members) if any(pattern)]
    return torch.tensor(patterns).T.contiguous()


class FusionContract(ABC):
    """Inherit, give ``make``; the flags say where a rule is meant to differ."""

    num_classes = 5
    # Fused rows are a distribution over the classes; False for decisions and regression.
    sums_to_one = True
    # Gradients reach the outputs; False where the rule counts, ranks or decides.
    differentiable = True
    # With one member, the answer is that member's own row.
    one_member_is_itself = True
    # Absent members leave exactly the rule of those that are left; False where a stand-in was learned for them.
    absent_is_left_out = True
    # The answer does not depend on the members' order; False where the order is the rule (a cascade).
    order_free = True
    # A row's bits do not depend on the rows beside it; False where a matrix product is blocked by batch size.
    rows_apart = True

    @abstractmethod
    def make(self, num_members: int) -> Rule: ...

    def outputs(self, num_members: int, batch: int, seed: int = 0) -> Tensor:
        """(M, B, C) what members of this rule would answer."""
        generator = torch.Generator().manual_seed(seed)
        return (3 * torch.randn(num_members, batch, self.num_classes, generator=generator)).softmax(dim=-1)

    def only(self, rule: Rule, kept: list[int]) -> Rule:
        """The same rule over some of its members, in the order given."""
        spec = rule.to_spec(names(rule.num_members))
        members = [f"member{index}" for index in kept]
        weights = {member: spec["weights"][member] for member in members} if "weights" in spec else None
        return type(rule).from_spec(members, weights, spec.get("options", {}), rule.state() or None)

    def test_answer_has_the_shapes_of_the_contract(self) -> None:
        fused = self.make(3).fuse(self.outputs(3, 7))
        assert fused.values.shape[0] == 7
        assert fused.contributions.shape == (3, 7)
        assert fused.coverage.shape == (7,)
        assert {fused.values.dtype, fused.contributions.dtype, fused.coverage.dtype} == {torch.float32}
        assert torch.isfinite(fused.values).all()
        if fused.abstained is not None:
            assert fused.abstained.shape == (7,)
            assert fused.abstained.dtype == torch.bool
            assert not fused.values[fused.abstained].any()

    def test_rows_and_contributions_sum_to_one(self) -> None:
        fused = self.make(4).fuse(self.outputs(4, 15), every_mask(4))
        decided = torch.ones(15, dtype=torch.bool) if fused.abstained is None else ~fused.abstained
        torch.testing.assert_close(fused.contributions.sum(0), torch.ones(15))
        if self.sums_to_one:
            torch.testing.assert_close(fused.values.sum(-1)[decided], torch.ones(int(decided.sum())))
            assert (fused.values >= 0).all()

    def test_coverage_is_one_when_all_answered_and_less_otherwise(self) -> None:
        coverage = self.make(3).fuse(self.outputs(3, 7), every_mask(3)).coverage
        assert coverage[0] == 1
        assert ((coverage[1:] > 0) & (coverage[1:] < 1)).all()

    def test_order_of_members_changes_nothing_but_rounding(self) -> None:
        if not self.order_free:
            pytest.skip("the order is the rule")

        @settings(max_examples=25)
        @given(seed=st.integers(0, 2**31), num_members=st.integers(2, 9), masked=st.booleans())
        def holds(seed: int, num_members: int, masked: bool) -> None:
            rule, outputs = self.make(num_members), self.outputs(num_members, 6, seed)
            order = torch.randperm(num_members, generator=torch.Generator().manual_seed(seed))
            present = torch.rand(num_members, 6, generator=torch.Generator().manual_seed(seed)) < 0.7
            present = present.index_fill(0, torch.tensor(0), True) if masked else torch.ones_like(present)
            fused = rule.fuse(outputs, present)
            moved = self.only(rule, order.tolist()).fuse(outputs[order], present[order])
            assert_close(moved, Fused(fused.values, fused.contributions[order], fused.coverage, fused.abstained))

        holds()

    def test_arrays_fuse_as_tensors_do(self) -> None:
        rule, outputs, masks = self.make(3), self.outputs(3, 7), every_mask(3)
        alike = [mask.unsqueeze(1).expand(3, 7).contiguous() for mask in masks.T]
        damaged = outputs.clone()
        damaged[1, 2, 0] = torch.nan
        for given_outputs, mask in product((outputs, damaged), (None, masks[:, :6].roll(3, 1), *alike)):
            rows = slice(0, 7 if mask is None else mask.shape[1])
            if mask is not None and not (mask & torch.isfinite(given_outputs[:, rows]).all(-1)).any(0).all():
                continue
            fused = rule.fuse(given_outputs[:, rows], mask)
            found = rule.fuse_arrays(given_outputs[:, rows].numpy(), None if mask is None else mask.numpy())
            values, contributions, coverage = map(torch.from_numpy, (found.values, found.contributions, found.coverage))
            abstained = None if found.abstained is None else torch.from_numpy(found.abstained)
            assert_same_bits(Fused(values, contributions, coverage, abstained), fused)

    def test_one_member_alone_is_the_answer(self) -> None:
        outputs = self.outputs(1, 6)
        fused = self.make(1).fuse(outputs)
        torch.testing.assert_close(fused.contributions, torch.ones(1, 6))
        if self.one_member_is_itself:
            torch.testing.assert_close(fused.values, outputs[0])

    @pytest.mark.parametrize("num_members", [1, 2, 3, 4])
    def test_every_mask_gives_the_fusion_of_the_members_that_answered(self, num_members: int) -> None:
        rule, masks = self.make(num_members), every_mask(num_members)
        outputs = self.outputs(num_members, masks.shape[1])
        fused = rule.fuse(outputs, masks)
        assert torch.isfinite(fused.values).all()
        assert not fused.contributions[~masks].any()
        for row in range(masks.shape[1]):
            kept = masks[:, row].nonzero().flatten().tolist()
            if self.absent_is_left_out:
                left = self.only(rule, kept).fuse(outputs[kept, row : row + 1])
                torch.testing.assert_close(fused.values[row], left.values[0])
                torch.testing.assert_close(fused.contributions[kept, row], left.contributions[:, 0])

    def test_what_stands_in_an_absent_row_never_shows(self) -> None:
        rule, outputs, masks = self.make(3), self.outputs(3, 7), every_mask(3)
        expected = rule.fuse(outputs, masks)
        for rubbish in (float("nan"), float("inf"), -float("inf"), 1e30):
            assert_same_bits(rule.fuse(torch.where(masks.unsqueeze(-1), outputs, rubbish), masks), expected)

    def test_row_with_nan_or_infinity_is_an_absent_row(self) -> None:
        rule, outputs, masks = self.make(3), self.outputs(3, 7), every_mask(3)
        for rubbish in (float("nan"), float("inf"), -float("inf")):
            spoiled = outputs.clone()
            spoiled[..., -1] = torch.where(masks, outputs[..., -1], rubbish)
            assert_same_bits(rule.fuse(spoiled), rule.fuse(outputs, masks))

    def test_nobody_present_is_a_typed_error(self) -> None:
        with pytest.raises(QuorumError):
            self.make(2).fuse(self.outputs(2, 3), torch.zeros(2, 3, dtype=torch.bool))
        with pytest.raises(QuorumError):
            self.make(2).fuse(torch.full((2, 3, self.num_classes), float("nan")))

    def test_member_of_weight_zero_is_skipped_whatever_it_says(self) -> None:
        rule = self.make(3)
        if rule.spec_weights is None:
            pytest.skip("this rule has no weights")
        spec, outputs = rule.to_spec(names(3)), self.outputs(3, 4)
        muted = type(rule).from_spec(
            names(3), {**spec["weights"], "member1": 0.0}, spec.get("options", {}), rule.state() or None
        )
        without = self.only(rule, [0, 2]).fuse(outputs[[0, 2]])
        for said in (0.0, 1e30, -1e30, float("inf"), float("nan")):
            loud = outputs.index_fill(0, torch.tensor(1), said)
            fused = muted.fuse(loud)
            torch.testing.assert_close(fused.values, without.values)
            assert not fused.contributions[1].any()
            assert (fused.coverage == 1).all()

    def test_gradient_reaches_present_members_and_only_them(self) -> None:
        if not self.differentiable:
            pytest.skip("this rule decides, it has no slope")
        rule, masks = self.make(3), every_mask(3)
        outputs = self.outputs(3, 7).requires_grad_()
        fused = rule.fuse(outputs, masks)
        torch.testing.assert_close(fused.values, rule.fuse(outputs.detach(), masks).values)
        slope = torch.randn(fused.values.shape, generator=torch.Generator().manual_seed(1))
        (fused.values * slope).sum().backward()
        assert outputs.grad is not None
        assert torch.isfinite(outputs.grad).all()
        assert outputs.grad[:, 0].any()
        assert not outputs.grad[~masks].any()

    def test_gradient_is_the_slope_of_the_answer(self) -> None:
        if not self.differentiable:
            pytest.skip("this rule decides, it has no slope")
        rule, generator = self.make(3), torch.Generator().manual_seed(2)
        outputs = self.outputs(3, 2).requires_grad_()
        fused = rule.fuse(outputs).values
        slope = torch.randn(fused.shape, generator=generator)
        (gradient,) = torch.autograd.grad((fused * slope).sum(), outputs)
        step = 2e-3 * torch.randn(outputs.shape, generator=generator) * outputs.detach()
        ahead, behind = rule.fuse(outputs.detach() + step).values, rule.fuse(outputs.detach() - step).values
        measured = ((ahead - behind).double() * slope).sum() / 2
        torch.testing.assert_close((gradient.double() * step).sum(), measured, rtol=1e-2, atol=1e-6)

    def test_spec_and_state_build_the_same_rule_again(self) -> None:
        rule, outputs, masks = self.make(3), self.outputs(3, 7), every_mask(3)
        spec = json.loads(json.dumps(rule.to_spec(names(3))))
        state = load(save(rule.state())) or None
        again = build_rule(spec["rule"], spec["members"], spec.get("weights"), spec.get("options", {}), state)
        assert type(again) is type(rule)
        assert again.to_spec(names(3)) == rule.to_spec(names(3))
        assert_same_bits(again.fuse(outputs, masks), rule.fuse(outputs, masks))

    def test_a_row_alone_has_the_bits_it_has_in_a_batch(self) -> None:
        if not self.rows_apart:
            pytest.skip("matrix products are blocked by batch size")
        rule, masks = self.make(4), every_mask(4)
        outputs = self.outputs(4, masks.shape[1])
        for mask in (torch.ones_like(masks), masks):
            fused = rule.fuse(outputs, mask)
            for row in range(masks.shape[1]):
                alone = rule.fuse(outputs[:, row : row + 1], mask[:, row : row + 1])
                assert torch.equal(alone.values[0], fused.values[row])
                assert torch.equal(alone.contributions[:, 0], fused.contributions[:, row])
                assert torch.equal(alone.coverage[0], fused.coverage[row])

    def test_half_and_double_precision_are_read(self) -> None:
        rule, outputs = self.make(3), self.outputs(3, 4)
        assert_same_bits(rule.fuse(outputs.double()), rule.fuse(outputs))
        assert torch.isfinite(rule.fuse(outputs.bfloat16()).values).all()

    def test_batch_without_rows_is_fused_to_no_rows(self) -> None:
        rule, outputs = self.make(3), self.outputs(3, 4)[:, :0]
        for present in (None, torch.ones(3, 0, dtype=torch.bool)):
            fused = rule.fuse(outputs, present)
            assert fused.values.shape == (0, self.num_classes)
            assert fused.contributions.shape == (3, 0)
            assert fused.coverage.shape == (0,)

    def test_layout_in_memory_changes_no_bit(self) -> None:
        rule, outputs, masks = self.make(3), self.outputs(3, 7), every_mask(3)
        strided = torch.stack([outputs, torch.zeros_like(outputs)], dim=-1)[..., 0]
        for moved in (outputs.permute(2, 1, 0).contiguous().permute(2, 1, 0), strided):
            assert_same_bits(rule.fuse(moved), rule.fuse(outputs))
            assert_same_bits(rule.fuse(moved, masks.T.contiguous().T), rule.fuse(outputs, masks))

    def test_answer_stays_when_the_rule_is_asked_again(self) -> None:
        rule, masks = self.make(3), every_mask(3)
        for present in (None, masks):
            fused = rule.fuse(self.outputs(3, 7), present)
            kept = Fused(fused.values.clone(), fused.contributions.clone(), fused.coverage.clone(), fused.abstained)
            rule.fuse(self.outputs(3, 7, seed=1), present)
            assert_same_bits(fused, kept)

    def test_answer_is_the_callers_to_write_on(self) -> None:
        rule, outputs = self.make(3), self.outputs(3, 1)
        for present in (None, torch.tensor([[True], [False], [True]])):
            expected = rule.fuse(outputs, present)
            kept = Fused(*(None if part is None else part.clone() for part in vars(expected).values()))  # type: ignore[arg-type]
            for part in (expected.values, expected.contributions, expected.coverage):
                part.zero_()
            assert_same_bits(rule.fuse(outputs, present), kept)

    def test_rule_that_answered_in_inference_mode_still_learns(self) -> None:
        if not self.differentiable:
            pytest.skip("this rule decides, it has no slope")
        rule, batch = self.make(3), 400  # enough for scratch memory, which a new thread has none of
        some = torch.rand(3, batch, generator=torch.Generator().manual_seed(0)) < 0.7
        some[0] = True

        def answer_and_learn(present: Tensor | None) -> None:
            with torch.inference_mode():
                fused = rule.fuse(self.outputs(3, batch), present)
            assert_same_bits(rule.fuse(self.outputs(3, batch), present), fused)
            outputs = self.outputs(3, batch).requires_grad_()
            rule.fuse(outputs, present).values.square().sum().backward()
            assert outputs.grad is not None

        for present in (None, some, torch.tensor([[True], [False], [True]]).expand(-1, batch)):
            with ThreadPoolExecutor(1) as thread:
                thread.submit(answer_and_learn, present).result()

    def test_outputs_are_left_as_they_were(self) -> None:
        rule, outputs = self.make(3), self.outputs(3, 4)
        before = outputs.clone()
        rule.fuse(outputs)
        assert torch.equal(outputs, before)

    def test_wrong_shapes_are_typed_errors(self) -> None:
        rule, outputs = self.make(3), self.outputs(3, 4)
        with pytest.raises(MemberCountError, match="3 members but got 2"):
            rule.fuse(outputs[:2])
        with pytest.raises(ShapeError, match="outputs"):
            rule.fuse(outputs[0])
        with pytest.raises(ShapeError, match="present"):
            rule.fuse(outputs, torch.ones(3, 5, dtype=torch.bool))
        with pytest.raises(ShapeError, match="at least one class"):
            rule.fuse(outputs[..., :0])
        with pytest.raises(ShapeError, match="real numbers"):
            rule.fuse(outputs.to(torch.complex64))
        for dtype in (torch.float32, torch.int64, torch.uint8):
            with pytest.raises(ShapeError, match=r"torch\.bool"):
                rule.fuse(outputs, 2 * torch.ones(3, 4, dtype=dtype))

    def test_number_that_float32_cannot_hold_is_an_absent_row(self) -> None:
        rule, outputs, masks = self.make(3), self.outputs(3, 7), every_mask(3)
        huge = outputs.double().masked_fill(~masks.unsqueeze(-1), 1e300)
        assert_same_bits(rule.fuse(huge), rule.fuse(outputs, masks))

    def test_option_that_the_rule_does_not_read_is_refused(self) -> None:
        rule = self.make(2)
        spec = rule.to_spec(names(2))
        with pytest.raises(RuleOptionError, match="no_such_option"):
            type(rule).from_spec(
                names(2), spec.get("weights"), {**spec.get("options", {}), "no_such_option": 1}, rule.state() or None
            )
