"""Attention over outputs: PyTorch's attention as the oracle, and digits members that are missing."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot, scaled_dot_product_attention

from quorate.fusion import Mean, OutputAttention, Rule, Training, fit_output_attention
from quorate.fusion.errors import RuleOptionError
from tests.fusion.support.contract import FusionContract, assert_same_bits, every_mask, names
from tests.fusion.support.digits import MEMBERS, accuracy, log_loss, predictions

pytestmark = pytest.mark.long


@lru_cache
def fitted(num_members: int, over: str) -> OutputAttention:
    generator = torch.Generator().manual_seed(num_members)
    labels = torch.randint(0, 5, (200,), generator=generator)
    logits = torch.randn(num_members, 200, 5, generator=generator) + 2 * one_hot(labels, 5)
    training = Training(steps=60, batch_rows=64)
    return fit_output_attention(names(num_members), logits.softmax(-1), labels, over=over, width=8, training=training)


class TestOutputAttention(FusionContract):
    rows_apart = False

    def make(self, num_members: int) -> Rule:
        return fitted(num_members, "probabilities")


class TestOutputAttentionOverLogits(TestOutputAttention):
    def make(self, num_members: int) -> Rule:
        return fitted(num_members, "logits")


def test_answer_is_scaled_dot_product_attention_over_members() -> None:
    rule, masks = fitted(3, "probabilities"), every_mask(3)
    outputs = TestOutputAttention().outputs(3, 7)
    state = rule.state()
    embedding = torch.stack([state[f"embedding/{name}"] for name in names(3)])
    tokens = (outputs @ state["project.weight"].T).transpose(0, 1) + embedding  # (B, M, D)
    there = masks.T.unsqueeze(-1)
    mean = (tokens * there).sum(1) / there.sum(1)
    query = mean @ state["query.weight"].T + state["query.bias"]
    keys = tokens @ state["key.weight"].T
    values = scaled_dot_product_attention(
        query.unsqueeze(1), keys, outputs.transpose(0, 1), attn_mask=masks.T.unsqueeze(1)
    )[:, 0]
    torch.testing.assert_close(rule.fuse(outputs, masks).values, values)


def test_attention_beats_the_mean_and_every_member_on_digits() -> None:
    outputs, labels, _ = predictions("rule")
    test, truth, _ = predictions("test")
    fused = fit_output_attention(MEMBERS, outputs, labels, over="logits").fuse(test).values
    assert log_loss(fused, truth) < log_loss(Mean(3).fuse(test).values, truth)
    assert accuracy(fused, truth) > max(accuracy(part, truth) for part in test)


def test_missing_member_leaves_an_answer_better_than_the_members_left() -> None:
    outputs, labels, _ = predictions("rule")
    test, truth, _ = predictions("test")
    rule = fit_output_attention(MEMBERS, outputs, labels, over="logits")
    for gone in range(3):
        present = torch.ones(test.shape[:2], dtype=torch.bool).index_fill(0, torch.tensor(gone), False)
        left = [log_loss(part, truth) for index, part in enumerate(test) if index != gone]
        assert log_loss(rule.fuse(test, present).values, truth) < min(left)


def test_rows_of_ten_thousand_members_still_sum_to_one() -> None:
    members = names(10_000)
    state = {f"embedding/{name}": torch.zeros(4) for name in members}
    state |= {"project.weight": torch.randn(4, 5, generator=torch.Generator().manual_seed(0))}
    state |= {"query.weight": torch.eye(4), "query.bias": torch.zeros(4), "key.weight": torch.eye(4)}
    outputs = TestOutputAttention().outputs(10_000, 3)
    fused = OutputAttention.from_spec(members, None, {}, state).fuse(outputs)
    torch.testing.assert_close(fused.values.sum(-1), torch.ones(3), rtol=0, atol=1e-6)


def test_training_repeats_for_a_seed_in_any_order_of_members() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 100, 5, generator=generator).softmax(-1)
    labels = torch.randint(0, 5, (100,), generator=generator)
    training = Training(steps=20)
    one = fit_output_attention(["a", "b", "c"], outputs, labels, training=training)
    moved = fit_output_attention(["c", "a", "b"], outputs[[2, 0, 1]], labels, training=training)
    assert all(torch.equal(moved.state()[key], tensor) for key, tensor in one.state().items())


def test_every_parameter_gets_a_gradient() -> None:
    network = fitted(3, "logits").network
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    masks = every_mask(3)
    outputs = TestOutputAttention().outputs(3, 7)
    slope: Tensor = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    (network(outputs.log(), masks) * slope).sum().backward()
    gradients = {key: parameter.grad for key, parameter in network.named_parameters()}
    network.requires_grad_(False)
    for key, gradient in gradients.items():
        assert gradient is not None, key
        assert (gradient.abs() > 1e-5).any(), key


def test_members_may_be_left_out_of_the_spec_but_strangers_not_put_in() -> None:
    rule = fitted(3, "logits")
    outputs = TestOutputAttention().outputs(3, 4)
    fewer = OutputAttention.from_spec(["member2", "member0"], None, {"over": "logits"}, rule.state())
    present = torch.ones(3, 4, dtype=torch.bool).index_fill(0, torch.tensor(1), False)
    torch.testing.assert_close(fewer.fuse(outputs[[2, 0]]).values, rule.fuse(outputs, present).values)
    with pytest.raises(RuleOptionError, match="stranger"):
        OutputAttention.from_spec(["member0", "stranger"], None, {}, rule.state())
    assert_same_bits(
        OutputAttention.from_spec(names(3), None, rule.options, rule.state()).fuse(outputs), rule.fuse(outputs)
    )


@pytest.mark.parametrize("option", [{"width": 0}, {"over": "ranks"}])
def test_options_out_of_range_are_refused(option: dict[str, object]) -> None:
    outputs, labels, _ = predictions("rule")
    with pytest.raises(RuleOptionError):
        fit_output_attention(MEMBERS, outputs, labels, **option)  # type: ignore[arg-type]
