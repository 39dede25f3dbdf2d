"""The gate: whom it asks, what it makes of those who answer, and what it learns."""

from __future__ import annotations

import copy
import json
from functools import lru_cache

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import one_hot

from quorate.fusion import Fused, Gate, Mean, Rule, Training, fit_gate
from quorate.fusion.errors import QuorumError, RuleOptionError, ShapeError
from quorate.fusion.loading import load_rule
from tests.fusion.support.contract import FusionContract, assert_same_bits, every_mask, names
from tests.fusion.support.digits import MEMBERS, log_loss, predictions

# M members, B batch, D inputs


def state_of(scores_by_input: list[list[float]]) -> dict[str, Tensor]:
    """A linear gate's state: member m scores input d by scores_by_input[m][d]."""
    rows = {f"weight/member{m}": torch.tensor(row) for m, row in enumerate(scores_by_input)}
    num_inputs = len(scores_by_input[0])
    biases = {f"bias/member{m}": torch.tensor(0.0) for m in range(len(scores_by_input))}
    return {**rows, **biases, "center": torch.zeros(num_inputs), "scale": torch.ones(num_inputs)}


def gate_of(scores_by_input: list[list[float]], top_k: int) -> Gate:
    options = {"top_k": top_k, "input_name": "image"}
    return Gate.from_spec(names(len(scores_by_input)), None, options, state_of(scores_by_input))


class FixedInput(Gate):
    """A gate whose request is always the same, so that it can be asked like every other rule."""

    def fuse(self, outputs: Tensor, present: Tensor | None = None, inputs: Tensor | None = None) -> Fused:
        return super().fuse(outputs, present, torch.ones(outputs.shape[1] if outputs.dim() == 3 else 1, 2))


class TestGate(FusionContract):
    rows_apart = False

    def make(self, num_members: int) -> Rule:
        scores = torch.randn(num_members, 2, generator=torch.Generator().manual_seed(0)).tolist()
        options = {"top_k": num_members, "input_name": "image"}
        return FixedInput.from_spec(names(num_members), None, options, state_of(scores))

    def test_spec_and_state_build_the_same_rule_again(self) -> None:
        rule = self.make(3)
        spec, outputs, inputs = json.loads(json.dumps(rule.to_spec(names(3)))), self.outputs(3, 7), torch.ones(7, 2)
        again = load_rule(spec["rule"]).from_spec(spec["members"], None, spec["options"], load(save(rule.state())))
        assert isinstance(again, Gate)
        assert again.to_spec(names(3)) == rule.to_spec(names(3))
        assert_same_bits(again.fuse(outputs, every_mask(3), inputs), rule.fuse(outputs, every_mask(3)))


def test_only_the_k_best_scores_of_each_row_are_asked() -> None:
    gate = gate_of([[3.0, 0.0], [2.0, 1.0], [1.0, 2.0], [0.0, 3.0]], top_k=2)
    asked = gate.select(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert asked.T.tolist() == [[True, True, False, False], [False, False, True, True]]


def test_member_known_to_be_down_is_replaced_by_the_next_best() -> None:
    gate = gate_of([[3.0], [2.0], [1.0]], top_k=2)
    up = torch.tensor([False, True, True])
    assert gate.select(torch.ones(1, 1), up).T.tolist() == [[False, True, True]]
    assert gate.select(torch.ones(1, 1), torch.tensor([False, False, True])).T.tolist() == [[False, False, True]]
    with pytest.raises(QuorumError):
        gate.select(torch.ones(1, 1), torch.zeros(3, dtype=torch.bool))


def test_answer_is_the_softmax_of_the_scores_of_those_asked() -> None:
    gate, outputs = gate_of([[3.0], [2.0], [1.0]], top_k=2), TestGate().outputs(3, 1)
    gates = np.exp([3.0, 2.0]) / np.exp([3.0, 2.0]).sum()
    fused = gate.fuse(outputs, gate.select(torch.ones(1, 1)), torch.ones(1, 1))
    np.testing.assert_allclose(fused.values[0], gates @ outputs[:2, 0].double().numpy(), rtol=1e-6)
    np.testing.assert_allclose(fused.contributions[:, 0], [*gates, 0.0], rtol=1e-6)
    assert fused.coverage.tolist() == [1.0]


def test_member_that_was_not_chosen_is_not_read_even_if_it_answered() -> None:
    gate, outputs = gate_of([[3.0], [2.0], [1.0]], top_k=2), TestGate().outputs(3, 4)
    inputs = torch.ones(4, 1)
    chosen = gate.fuse(outputs, gate.select(inputs), inputs)
    assert_same_bits(gate.fuse(outputs, None, inputs), chosen)


def test_chosen_member_that_fails_lowers_the_coverage_and_nothing_is_nan() -> None:
    gate, outputs = gate_of([[3.0], [2.0], [1.0]], top_k=2), TestGate().outputs(3, 1)
    fused = gate.fuse(outputs, torch.tensor([[False], [True], [False]]), torch.ones(1, 1))
    torch.testing.assert_close(fused.values, outputs[1])
    np.testing.assert_allclose(fused.coverage, 1 / (1 + np.e), rtol=1e-6)


def test_equal_scores_are_chosen_by_name_whatever_the_order() -> None:
    members = [f"member{index:02}" for index in range(40)]
    state = {f"weight/{name}": torch.ones(1) for name in members} | {
        f"bias/{name}": torch.zeros(()) for name in members
    }
    state |= {"center": torch.zeros(1), "scale": torch.ones(1)}
    for seed in range(5):
        order = [members[index] for index in torch.randperm(40, generator=torch.Generator().manual_seed(seed))]
        gate = Gate.from_spec(order, None, {"top_k": 3, "input_name": "image"}, state)
        asked = gate.select(torch.ones(1, 1))[:, 0]
        assert sorted(name for name, chosen in zip(order, asked, strict=True) if chosen) == members[:3]


def test_input_that_is_not_finite_counts_as_the_training_mean() -> None:
    gate, outputs = gate_of([[3.0, 1.0], [2.0, -1.0]], top_k=2), TestGate().outputs(2, 1)
    for rubbish in (float("nan"), float("inf")):
        fused = gate.fuse(outputs, None, torch.tensor([[1.0, rubbish]]))
        assert_same_bits(fused, gate.fuse(outputs, None, torch.tensor([[1.0, 0.0]])))


def test_fusing_without_the_request_or_with_another_shape_is_a_typed_error() -> None:
    gate, outputs = gate_of([[3.0], [2.0]], top_k=1), TestGate().outputs(2, 4)
    with pytest.raises(RuleOptionError, match="image"):
        gate.fuse(outputs)
    with pytest.raises(ShapeError, match="inputs"):
        gate.select(torch.ones(4, 2))
    with pytest.raises(ShapeError, match="outputs"):
        gate.fuse(outputs, None, torch.ones(3, 1))
    with pytest.raises(ShapeError, match="available"):
        gate.select(torch.ones(4, 1), torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize("options", [{"top_k": 0, "input_name": "x"}, {"top_k": 1}, {"input_name": "x"}])
def test_options_that_are_missing_or_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RuleOptionError):
        Gate.from_spec(names(2), None, options, state_of([[3.0], [2.0]]))


@lru_cache
def experts(rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Three members, each right only where the first input lies in its third of [0, 3)."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(rows, 4, generator=generator) * 3
    labels = torch.randint(0, 5, (rows,), generator=generator)
    strengths = 4.0 * (inputs[:, 0].long() == torch.arange(3).unsqueeze(1))
    logits = torch.randn(3, rows, 5, generator=generator) + strengths.unsqueeze(-1) * one_hot(labels, 5)
    return inputs, logits.softmax(-1), labels


@pytest.mark.long
@pytest.mark.parametrize("hidden", [0, 16])
def test_gate_learns_whose_request_it_is_and_asks_one_member(hidden: int) -> None:
    inputs, outputs, labels = experts(2000, 0)
    gate = fit_gate(names(3), inputs, outputs, labels, input_name="place", top_k=1, hidden=hidden)
    inputs, outputs, labels = experts(500, 1)
    asked = gate.select(inputs)
    assert (asked.sum(0) == 1).all()
    assert (asked.int().argmax(0) == inputs[:, 0].long()).float().mean() > 0.9
    fused = gate.fuse(outputs, asked, inputs).values
    assert log_loss(fused, labels) < log_loss(Mean(3).fuse(outputs).values, labels) / 1.5


@pytest.mark.long
def test_gate_on_real_digits_asks_two_of_three_and_beats_the_best_member() -> None:
    outputs, labels, pixels = predictions("rule")
    test, truth, seen = predictions("test")
    gate = fit_gate(MEMBERS, pixels, outputs, labels, input_name="image", top_k=2)
    asked = gate.select(seen)
    assert (asked.sum(0) == 2).all()
    fused = gate.fuse(test, asked, seen).values
    assert log_loss(fused, truth) < min(log_loss(part, truth) for part in test)


def test_training_repeats_for_a_seed_in_any_order_of_members_and_state_goes_by_name() -> None:
    inputs, outputs, labels = experts(300, 0)
    training = Training(steps=20)
    one = fit_gate(["a", "b", "c"], inputs, outputs, labels, input_name="x", top_k=2, training=training)
    moved = fit_gate(["c", "a", "b"], inputs, outputs[[2, 0, 1]], labels, input_name="x", top_k=2, training=training)
    assert all(torch.equal(moved.state()[key], tensor) for key, tensor in one.state().items())
    assert torch.equal(moved.select(inputs), one.select(inputs)[[2, 0, 1]])


def test_input_that_never_changes_and_rows_without_members_do_no_harm() -> None:
    inputs, outputs, labels = experts(300, 0)
    still = torch.cat([inputs, torch.ones(300, 1)], dim=1)
    present = torch.ones(3, 300, dtype=torch.bool)
    present[:, :5] = False
    gate = fit_gate(names(3), still, outputs, labels, present, input_name="x", top_k=2, training=Training(steps=20))
    assert all(torch.isfinite(tensor).all() for tensor in gate.state().values())
    torch.testing.assert_close(gate.state()["center"], still[5:].mean(0))


def test_inputs_that_do_not_fit_are_refused() -> None:
    inputs, outputs, labels = experts(300, 0)
    for wrong in (inputs[:-1], inputs[:, 0], inputs.index_fill(0, torch.tensor(3), float("nan"))):
        with pytest.raises(ShapeError, match="inputs"):
            fit_gate(names(3), wrong, outputs, labels, input_name="x", top_k=1)
    with pytest.raises(RuleOptionError, match="hidden"):
        fit_gate(names(3), inputs, outputs, labels, input_name="x", top_k=1, hidden=-1)
    with pytest.raises(RuleOptionError, match="top_k"):
        fit_gate(names(3), inputs, outputs, labels, input_name="x", top_k=0)


@pytest.mark.parametrize("hidden", [0, 8])
def test_every_parameter_gets_a_gradient(hidden: int) -> None:
    """Through the mixture's loss that trains it: a gate over the k best alone would teach nothing about the others."""
    outputs, labels, pixels = predictions("rule")
    gate = fit_gate(
        MEMBERS, pixels, outputs, labels, input_name="image", top_k=1, hidden=hidden, training=Training(steps=5)
    )
    network = copy.deepcopy(gate.network).requires_grad_(True)
    shares = network(pixels.float()).softmax(dim=0)
    given = outputs.gather(2, labels.view(1, -1, 1).expand(3, -1, 1)).squeeze(-1)[[2, 0, 1]]
    (shares * given).sum(dim=0).log().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert (parameter.grad.abs() > 1e-6).any(), key
