"""Token-level fusion of taggers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from quorate.fusion import Mean, WeightedMean, fuse_tokens
from quorate.fusion.errors import MemberCountError, QuorumError, ShapeError

# M members, B batch, T tokens, C classes
WEIGHTS = [0.5, 0.2, 0.3]
LENGTHS = [5, 3, 1, 0]
PADDING = torch.arange(5).unsqueeze(0) >= torch.tensor(LENGTHS).unsqueeze(1)


def said(seed: int = 0) -> Tensor:
    return torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1)


def test_each_token_is_the_weighted_mean_of_its_members() -> None:
    outputs = said()
    fused = fuse_tokens(WeightedMean(WEIGHTS), outputs)
    np.testing.assert_allclose(fused.values, np.average(outputs, axis=0, weights=WEIGHTS), rtol=1e-5)
    torch.testing.assert_close(fused.contributions, torch.tensor(WEIGHTS).view(3, 1, 1).expand(3, 4, 5))
    assert torch.equal(fused.coverage, torch.ones(4, 5))
    assert fused.abstained is None


def test_token_has_the_bits_it_has_as_a_row_of_its_own() -> None:
    rule, outputs = WeightedMean(WEIGHTS), said()
    fused = fuse_tokens(rule, outputs, padding=PADDING)
    for row, length in enumerate(LENGTHS):
        if length:
            alone = rule.fuse(outputs[:, row, :length])
            assert torch.equal(fused.values[row, :length], alone.values)
            assert torch.equal(fused.contributions[:, row, :length], alone.contributions)
            assert torch.equal(fused.coverage[row, :length], alone.coverage)


def test_padding_is_never_read_and_is_zero_in_the_answer() -> None:
    rule, outputs = Mean(3), said()
    expected = fuse_tokens(rule, outputs, padding=PADDING)
    for rubbish in (float("nan"), 1e30):
        spoiled = torch.where(PADDING.unsqueeze(-1), rubbish, outputs)
        fused = fuse_tokens(rule, spoiled, padding=PADDING)
        assert torch.equal(fused.values, expected.values)
        assert not fused.values[PADDING].any()
        assert not fused.contributions[:, PADDING].any()
        assert not fused.coverage[PADDING].any()


def test_member_that_is_absent_from_a_sequence_or_from_one_token_is_left_out_there_alone() -> None:
    rule, outputs = WeightedMean(WEIGHTS), said()
    present = torch.ones(3, 4, dtype=torch.bool)
    present[1, 2] = False
    outputs[0, 3, 4, 0] = float("nan")
    fused = fuse_tokens(rule, outputs, present)
    np.testing.assert_allclose(fused.values[2], np.average(outputs[[0, 2], 2], axis=0, weights=[0.5, 0.3]), rtol=1e-5)
    np.testing.assert_allclose(fused.coverage[2], [0.8] * 5, rtol=1e-6)
    np.testing.assert_allclose(fused.values[3, 4], np.average(outputs[1:, 3, 4], axis=0, weights=[0.2, 0.3]), rtol=1e-5)
    np.testing.assert_allclose(fused.coverage[3], [1, 1, 1, 1, 0.5], rtol=1e-6)
    by_token = present.unsqueeze(-1).expand(3, 4, 5)
    assert torch.equal(fuse_tokens(rule, outputs, by_token).values, fused.values)


def test_sequences_of_padding_alone_are_zero() -> None:
    fused = fuse_tokens(Mean(3), said(), padding=torch.ones(4, 5, dtype=torch.bool))
    assert fused.values.shape == (4, 5, 6)
    assert not fused.values.any()


def test_gradient_reaches_tokens_and_not_padding() -> None:
    outputs = said().requires_grad_()
    fuse_tokens(Mean(3), outputs, padding=PADDING).values.square().sum().backward()
    assert outputs.grad is not None
    assert outputs.grad[:, ~PADDING].any(dim=-1).all()
    assert not outputs.grad[:, PADDING].any()


def test_token_without_any_member_is_a_typed_error_but_not_in_padding() -> None:
    present = torch.ones(3, 4, 5, dtype=torch.bool)
    present[:, 1, 4] = False
    fuse_tokens(Mean(3), said(), present, PADDING)
    with pytest.raises(QuorumError):
        fuse_tokens(Mean(3), said(), present)


def test_wrong_shapes_are_typed_errors() -> None:
    outputs = said()
    with pytest.raises(ShapeError, match="outputs"):
        fuse_tokens(Mean(3), outputs[0])
    with pytest.raises(ShapeError, match="padding"):
        fuse_tokens(Mean(3), outputs, padding=PADDING[:, :-1])
    with pytest.raises(ShapeError, match="present"):
        fuse_tokens(Mean(3), outputs, torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(MemberCountError):
        fuse_tokens(Mean(2), outputs)
