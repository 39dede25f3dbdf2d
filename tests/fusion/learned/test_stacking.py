"""Stacking against scikit-learn, and with members missing."""

from __future__ import annotations

import copy
from functools import lru_cache

import numpy as np
import pytest
import torch
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression

from quorate.fusion import Mean, Rule, Stacking, Training, drop_members, fit_stacking
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError, ShapeError
from tests.fusion.support.contract import FusionContract, assert_same_bits, every_mask, names
from tests.fusion.support.digits import MEMBERS, RULE_ROWS, TEST_ROWS, accuracy, images, log_loss, members, predictions

pytestmark = pytest.mark.long


def spoken(num_members: int, rows: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_members)
    labels = torch.randint(0, 5, (rows,), generator=generator)
    logits = torch.randn(num_members, rows, 5, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 5)
    return logits.softmax(dim=-1), labels


@lru_cache
def fitted(num_members: int, over: str, hidden: int) -> Stacking:
    outputs, labels = spoken(num_members)
    training = Training(steps=60, batch_rows=64)
    return fit_stacking(names(num_members), outputs, labels, over=over, hidden=hidden, l2=1e-2, training=training)


class TestLinearStacking(FusionContract):
    one_member_is_itself = False
    absent_is_left_out = False
    rows_apart = False

    def make(self, num_members: int) -> Rule:
        return fitted(num_members, "probabilities", 0)


class TestLinearStackingOverLogits(TestLinearStacking):
    def make(self, num_members: int) -> Rule:
        return fitted(num_members, "logits", 0)


class TestHiddenLayerStacking(TestLinearStacking):
    def make(self, num_members: int) -> Rule:
        return fitted(num_members, "logits", 16)


NO_DROPOUT = Training(member_dropout=0.0)


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_linear_stacking_predicts_what_scikit_learns_stacking_classifier_does(strength: float) -> None:
    pixels, digits = images()
    theirs = StackingClassifier(
        list(members().items()), LogisticRegression(C=strength, max_iter=5000, tol=1e-8), cv="prefit"
    ).fit(pixels[RULE_ROWS], digits[RULE_ROWS])
    outputs, labels, _ = predictions("rule")
    ours = fit_stacking(MEMBERS, outputs, labels, l2=1 / (strength * len(labels)), training=NO_DROPOUT)
    fused = ours.fuse(predictions("test")[0]).values
    np.testing.assert_allclose(fused, theirs.predict_proba(pixels[TEST_ROWS]), atol=1e-3)


def test_stacking_over_logits_predicts_what_logistic_regression_on_them_does() -> None:
    outputs, labels, _ = predictions("rule")
    test = predictions("test")[0]
    flat = [
        np.log(np.maximum(part.double().numpy(), 1e-6)).transpose(1, 0, 2).reshape(-1, 30) for part in (outputs, test)
    ]
    theirs = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-10).fit(flat[0], labels)
    ours = fit_stacking(MEMBERS, outputs, labels, over="logits", l2=1 / len(labels), training=NO_DROPOUT)
    np.testing.assert_allclose(ours.fuse(test).values, theirs.predict_proba(flat[1]), atol=1e-5)


@pytest.mark.parametrize(("over", "hidden"), [("probabilities", 0), ("logits", 0), ("logits", 32)])
def test_stacking_beats_every_member_on_digits(over: str, hidden: int) -> None:
    outputs, labels, _ = predictions("rule")
    test, truth, _ = predictions("test")
    rule = fit_stacking(MEMBERS, outputs, labels, over=over, hidden=hidden, l2=1e-4)
    fused = rule.fuse(test).values
    assert accuracy(fused, truth) > max(accuracy(part, truth) for part in test)
    assert log_loss(fused, truth) < min(log_loss(part, truth) for part in test)


@pytest.mark.parametrize("hidden", [0, 32])
def test_member_dropout_makes_a_missing_member_cost_less(hidden: int) -> None:
    outputs, labels, _ = predictions("rule")
    test, truth, _ = predictions("test")
    losses = {}
    for dropout in (0.0, 0.3):
        training = Training(member_dropout=dropout)
        rule = fit_stacking(MEMBERS, outputs, labels, over="logits", hidden=hidden, l2=1e-4, training=training)
        present = torch.ones(test.shape[:2], dtype=torch.bool).index_fill(0, torch.tensor(0), False)
        losses[dropout] = log_loss(rule.fuse(test, present).values, truth)
    assert losses[0.3] < losses[0.0]


def test_member_that_training_never_missed_is_stood_in_for_by_its_mean_output() -> None:
    outputs, labels, _ = predictions("rule")
    rule = fit_stacking(MEMBERS, outputs, labels, training=NO_DROPOUT)
    state = rule.state()
    torch.testing.assert_close(state["stand_in/top"], outputs[0].mean(dim=0) @ state["weight/top"])


def test_linear_stacking_with_gaps_is_logistic_regression_with_missing_value_indicators() -> None:
    outputs, labels, _ = predictions("rule")
    present = torch.rand(3, len(labels), generator=torch.Generator().manual_seed(0)) < 0.7
    present[0] |= ~present.any(dim=0)
    heard = torch.where(present.unsqueeze(-1), outputs, 0.0)
    flat = np.concatenate([heard.permute(1, 0, 2).flatten(1).numpy(), (~present).T.numpy()], axis=1)
    theirs = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-7).fit(flat, labels)
    ours = fit_stacking(MEMBERS, outputs, labels, present, l2=1 / len(labels), training=NO_DROPOUT)
    several = present.sum(dim=0) > 1
    expected = theirs.predict_proba(flat)[several.numpy()]
    np.testing.assert_allclose(ours.fuse(outputs, present).values[several], expected, atol=1e-5)


@pytest.mark.parametrize("hidden", [0, 8])
def test_where_one_member_is_left_its_output_is_the_answer(hidden: int) -> None:
    outputs = spoken(3)[0]
    fused = fitted(3, "logits", hidden).fuse(outputs[:, :3], torch.eye(3, dtype=torch.bool))
    assert torch.equal(fused.values, outputs[[0, 1, 2], [0, 1, 2]])
    assert torch.equal(fused.contributions, torch.eye(3))
    alone = fitted(1, "logits", hidden)  # of one member there is, stacking is a calibration
    assert not torch.equal(alone.fuse(spoken(1)[0]).values, spoken(1)[0][0])


def test_contributions_of_the_linear_rule_are_its_shap_values_shares() -> None:
    outputs, labels, _ = predictions("rule")
    rule = fit_stacking(MEMBERS, outputs, labels, training=NO_DROPOUT)
    test = predictions("test")[0][:, :20]
    fused, state = rule.fuse(test), {key: tensor.double() for key, tensor in rule.state().items()}
    winner = fused.values.argmax(dim=1)
    # Linear SHAP with the training mean as background: weight * (value - mean), summed over a member's columns.
    shap = torch.stack(
        [
            ((part - given.mean(0)).double() @ state[f"weight/{name}"]).gather(1, winner.unsqueeze(1))[:, 0]
            for name, part, given in zip(MEMBERS, test, outputs, strict=True)
        ]
    ).abs()
    torch.testing.assert_close(fused.contributions.double(), shap / shap.sum(0), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("hidden", [0, 8])
def test_training_repeats_for_a_seed_in_any_order_of_members_and_leaves_the_random_state_alone(hidden: int) -> None:
    outputs, labels = spoken(3)
    training = Training(steps=20, member_dropout=0.4)
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    one = fit_stacking(["a", "b", "c"], outputs, labels, hidden=hidden, training=training)
    assert torch.equal(torch.rand(3), expected)
    moved = fit_stacking(["c", "a", "b"], outputs[[2, 0, 1]], labels, hidden=hidden, training=training)
    assert all(torch.equal(moved.state()[key], tensor) for key, tensor in one.state().items())
    other = fit_stacking(["a", "b", "c"], outputs, labels, hidden=hidden, training=Training(steps=20, seed=1))
    assert not torch.equal(other.state()["weight/a"], one.state()["weight/a"])


def test_training_never_reads_absent_rows() -> None:
    outputs, labels = spoken(3)
    present = torch.rand(3, 200, generator=torch.Generator().manual_seed(0)) < 0.7
    spoiled = torch.where(present.unsqueeze(-1), outputs, float("nan"))
    one = fit_stacking(names(3), outputs, labels, present)
    two = fit_stacking(names(3), spoiled, labels)
    assert_same_bits(one.fuse(outputs), two.fuse(outputs))


def test_state_of_other_members_or_another_shape_is_refused() -> None:
    rule = fitted(3, "probabilities", 0)
    state, options = rule.state(), dict(rule.options)
    for members_, wrong in (
        (["member0", "member1"], state),  # a stand-in is trained for all
        (["member0", "member1", "other"], state),
        (names(3), {key: tensor for key, tensor in state.items() if key != "bias"}),
        (names(3), {key: tensor for key, tensor in state.items() if key != "stand_in/member0"}),
        (names(3), {**state, "weight/member0": torch.zeros(2, 2)}),
        (names(3), {**state, "bias": torch.zeros(4)}),
        (names(3), {**state, "extra": torch.zeros(1)}),
        (names(3), {}),
        (names(3), None),
    ):
        with pytest.raises(RuleOptionError, match="state"):
            Stacking.from_spec(members_, None, options, wrong)
    with pytest.raises(RuleOptionError, match="state"):
        Stacking.from_spec(names(3), None, {"hidden": 8}, state)
    with pytest.raises(RuleOptionError, match="state"):
        Stacking.from_spec(names(3), None, {"hidden": "many"}, state)
    with pytest.raises(RuleOptionError, match="over"):
        Stacking.from_spec(names(3), None, {"over": "ranks"}, state)
    with pytest.raises(RuleOptionError, match="weights"):
        Stacking.from_spec(names(3), {"member0": 1.0}, {}, state)


def test_what_cannot_be_learned_from_is_refused() -> None:
    outputs, labels = spoken(3)
    with pytest.raises(MemberCountError):
        fit_stacking(names(2), outputs, labels)
    with pytest.raises(ShapeError, match="labels"):
        fit_stacking(names(3), outputs, labels[:-1])
    with pytest.raises(ShapeError, match="present"):
        fit_stacking(names(3), outputs, labels, torch.ones(3, 5, dtype=torch.bool))
    with pytest.raises(RuleOptionError, match="labels"):
        fit_stacking(names(3), outputs, labels + 1)
    with pytest.raises(RuleOptionError, match="labels"):
        fit_stacking(names(3), outputs, labels.float())
    with pytest.raises(QuorumError):
        fit_stacking(names(3), outputs, labels, torch.zeros(3, 200, dtype=torch.bool))
    with pytest.raises(RuleOptionError, match="hidden"):
        fit_stacking(names(3), outputs, labels, hidden=-1)
    with pytest.raises(RuleOptionError, match="member_dropout"):
        Training(member_dropout=1.0)


def test_stacking_over_logits_beats_the_mean_on_digits() -> None:
    outputs, labels, _ = predictions("rule")
    test, truth, _ = predictions("test")
    rule = fit_stacking(MEMBERS, outputs, labels, over="logits", l2=1e-4)
    assert log_loss(rule.fuse(test).values, truth) < log_loss(Mean(3).fuse(test).values, truth)


def test_member_dropout_leaves_out_the_asked_share_and_always_keeps_one() -> None:
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(6, 5000, generator=generator) < 0.8
    left = drop_members(present, 0.3, generator)
    assert not (left & ~present).any()
    assert torch.equal(left.any(dim=0), present.any(dim=0))
    many = present.sum(dim=0) == 6
    share = left[:, many].float().mean().item()
    assert abs(share - 0.7) < 4 * (0.21 / (6 * int(many.sum()))) ** 0.5 + 0.3**6
    harsh = drop_members(present, 0.99, generator)
    assert torch.equal(harsh.any(dim=0), present.any(dim=0))


@pytest.mark.parametrize("hidden", [0, 4])
def test_every_parameter_gets_a_gradient(hidden: int) -> None:
    network = copy.deepcopy(fitted(3, "probabilities", hidden).network).requires_grad_(True)
    masks = every_mask(3)
    outputs = TestLinearStacking().outputs(3, masks.shape[1])
    slope = torch.randn(masks.shape[1], 5, generator=torch.Generator().manual_seed(0))
    (network(outputs, masks) * slope).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert (parameter.grad.abs() > 1e-5).any(), key
