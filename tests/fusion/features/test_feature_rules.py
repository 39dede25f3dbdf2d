"""Feature rules against their formulas in numpy and PyTorch's own attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from quorate.fusion import (
    BilinearFusion,
    Concat,
    FeatureAttention,
    FeatureMean,
    FeatureRule,
    GatedFusion,
    Training,
    fit_features,
)
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError, ShapeError
from tests.fusion.support.digits import accuracy, predictions
from tests.fusion.support.feature_contract import MASKS, WIDTHS, FeatureContract, features

pytestmark = pytest.mark.long

EQUAL = {"train": 4, "audio": 4, "type-2": 4}


class TestConcat(FeatureContract):
    def make(self, widths: dict[str, int]) -> FeatureRule:
        return Concat(widths)

    def test_features_stand_side_by_side_in_the_order_of_the_spec(self) -> None:
        given = features(WIDTHS, 6)
        expected = np.concatenate([given[name].numpy() for name in ("train", "audio", "type-2")], axis=1)
        assert np.array_equal(Concat(WIDTHS).fuse(given).values.detach(), expected)

    def test_layout_names_the_order_of_columns(self) -> None:
        given = features(WIDTHS, 6)
        layout = ["type-2", "train", "audio"]
        fused = Concat(WIDTHS, layout).fuse(given).values
        assert torch.equal(fused, torch.cat([given[name] for name in layout], dim=1))
        with pytest.raises(RuleOptionError, match="layout"):
            Concat(WIDTHS, ["train", "train", "audio"])
        with pytest.raises(RuleOptionError, match="layout"):
            Concat.from_spec(list(WIDTHS), None, {"widths": WIDTHS, "layout": 3})

    def test_without_training_an_absent_member_is_zeros(self) -> None:
        spec = Concat(WIDTHS).to_spec(list(WIDTHS))
        rule = Concat.from_spec(spec["members"], None, spec["options"])
        assert not rule.fuse({"train": torch.ones(2, 4)}).values[:, 4:].any()

    def test_contribution_is_the_share_of_filled_columns(self) -> None:
        fused = Concat(WIDTHS).fuse(features({"train": 4, "audio": 3}, 2))
        torch.testing.assert_close(fused.contributions[:, 0], torch.tensor([4 / 7, 3 / 7, 0.0]))


class TestFeatureMean(FeatureContract):
    widths = EQUAL
    absent_is_left_out = True

    def make(self, widths: dict[str, int]) -> FeatureRule:
        return FeatureMean(widths)

    def test_mean_is_numpys(self) -> None:
        given = features(EQUAL, 6)
        expected = np.mean([rows.numpy() for rows in given.values()], axis=0)
        np.testing.assert_allclose(FeatureMean(EQUAL).fuse(given).values, expected, rtol=1e-6, atol=1e-7)

    def test_widths_that_differ_need_an_adapter(self) -> None:
        with pytest.raises(RuleOptionError, match="give width"):
            FeatureMean(WIDTHS)


class TestWeightedFeatureMeanWithAdapters(FeatureContract):
    absent_is_left_out = True

    def make(self, widths: dict[str, int]) -> FeatureRule:
        return FeatureMean(widths, {name: 1.0 + index for index, name in enumerate(widths)}, width=6)

    def test_mean_of_adapted_features_is_numpys(self) -> None:
        rule, given = self.trained(WIDTHS), features(WIDTHS, 6)
        state = {key: tensor.double().numpy() for key, tensor in rule.state().items()}
        adapted = [
            rows.double().numpy() @ state[f"adapters.member_{name}.weight"].T + state[f"adapters.member_{name}.bias"]
            for name, rows in given.items()
        ]
        own = rule.spec_weights
        assert own is not None
        expected = np.average(adapted, axis=0, weights=[own[name] for name in given])
        np.testing.assert_allclose(rule.fuse(given).values.detach(), expected, rtol=1e-5, atol=1e-6)

    def test_member_of_weight_zero_is_skipped_whatever_it_says(self) -> None:
        given = features(WIDTHS, 6)
        rule = FeatureMean(WIDTHS, {"train": 1.0, "audio": 0.0, "type-2": 1.0}, width=6)
        expected = rule.fuse(given)
        for said in (1e38, float("inf"), float("nan")):
            fused = rule.fuse({**given, "audio": torch.full((6, 3), said)})
            assert torch.equal(fused.values, expected.values)
            assert (fused.coverage == 1).all()
        with pytest.raises(QuorumError):
            rule.fuse({"audio": given["audio"]})

    def test_weights_are_those_that_were_given_to_the_last_digit_and_no_part_of_the_state(self) -> None:
        weights = {"train": 0.3, "audio": 0.0, "type-2": 1 / 3}
        rule = FeatureMean(EQUAL, weights)
        assert rule.spec_weights == pytest.approx(weights, abs=1e-12)
        assert rule.to_spec(list(EQUAL))["weights"]["train"] == 0.3
        assert not rule.state()

    def test_weights_that_are_no_weights_are_refused(self) -> None:
        for weights in (
            {"train": 1.0},
            {"train": 0.0, "audio": 0.0, "type-2": 0.0},
            {"train": -1.0, "audio": 1.0, "type-2": 1.0},
            {"train": float("nan"), "audio": 1.0, "type-2": 1.0},
        ):
            with pytest.raises(RuleOptionError, match="weights"):
                FeatureMean(WIDTHS, weights, width=6)

    def test_adapters_that_were_never_trained_are_refused(self) -> None:
        spec = self.make(WIDTHS).to_spec(list(WIDTHS))
        with pytest.raises(RuleOptionError, match="state"):
            FeatureMean.from_spec(spec["members"], spec["weights"], spec["options"])


class TestFeatureAttention(FeatureContract):
    absent_is_left_out = True

    def make(self, widths: dict[str, int]) -> FeatureRule:
        return FeatureAttention(widths, width=6, heads=2)

    def test_answer_is_pytorchs_multihead_attention(self) -> None:
        rule, given = self.trained(WIDTHS), features(WIDTHS, 7)
        assert isinstance(rule, FeatureAttention)
        theirs = nn.MultiheadAttention(6, 2, bias=True, batch_first=True)
        with torch.no_grad():
            theirs.in_proj_weight.copy_(torch.cat([torch.eye(6), rule.key.weight, rule.value.weight]))
            theirs.in_proj_bias.zero_()
            theirs.out_proj.weight.copy_(rule.out.weight)
            theirs.out_proj.bias.copy_(rule.out.bias)
            tokens = torch.stack([rule.adapters[f"member_{name}"](given[name]) for name in rule.members], dim=1)
            query = rule.query.reshape(1, 1, 6).expand(7, 1, 6)
            values, attention = theirs(query, tokens, tokens, key_padding_mask=~MASKS.T)
            fused = rule.fuse(given, MASKS)
        torch.testing.assert_close(fused.values, values[:, 0])
        torch.testing.assert_close(fused.contributions, attention[:, 0].T)

    def test_one_head_is_scaled_dot_product_attention(self) -> None:
        rule = FeatureAttention(WIDTHS, width=6).eval()
        given = features(WIDTHS, 4)
        with torch.no_grad():
            tokens = torch.stack([rule.adapters[f"member_{name}"](given[name]) for name in rule.members], dim=1)
            query = rule.query.expand(4, 1, 6)
            mixed = scaled_dot_product_attention(query, rule.key(tokens), rule.value(tokens))[:, 0]
            torch.testing.assert_close(rule.fuse(given).values, rule.out(mixed))

    @pytest.mark.parametrize(("width", "heads"), [(0, 1), (6, 0), (6, 4), (6.0, 2)])
    def test_heads_must_divide_the_width(self, width: int, heads: int) -> None:
        with pytest.raises(RuleOptionError):
            FeatureAttention(WIDTHS, width, heads)


class TestGatedFusion(FeatureContract):
    def make(self, widths: dict[str, int]) -> FeatureRule:
        return GatedFusion(widths, width=6)

    def test_two_members_are_the_gated_multimodal_unit(self) -> None:
        widths = {"text": 4, "image": 3}
        rule, given = self.trained(widths), features(widths, 5)
        state = {key: tensor.double().numpy() for key, tensor in rule.state().items()}
        image, text = given["image"].double().numpy(), given["text"].double().numpy()
        both = np.concatenate([image, text], axis=1)
        # Two softmax scores are one sigmoid of their difference: equation 1 of the paper.
        weight = state["gate.weight"][:6] - state["gate.weight"][6:]
        z = 1 / (1 + np.exp(-(both @ weight.T + state["gate.bias"][:6] - state["gate.bias"][6:])))
        h_image = np.tanh(image @ state["adapters.member_image.weight"].T + state["adapters.member_image.bias"])
        h_text = np.tanh(text @ state["adapters.member_text.weight"].T + state["adapters.member_text.bias"])
        fused = rule.fuse(given)
        np.testing.assert_allclose(fused.values.detach(), z * h_image + (1 - z) * h_text, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(fused.contributions[1].detach(), z.mean(axis=1), rtol=1e-5)

    def test_width_must_be_a_number_of_features(self) -> None:
        with pytest.raises(RuleOptionError, match="width"):
            GatedFusion(WIDTHS, 0)


class TestBilinearFusion(FeatureContract):
    def make(self, widths: dict[str, int]) -> FeatureRule:
        return BilinearFusion(widths, width=6, rank=2)

    def test_answer_is_the_full_tensor_product_with_the_low_rank_weight(self) -> None:
        rule, given = self.trained(WIDTHS), features(WIDTHS, 5)
        state = {key: tensor.double().numpy() for key, tensor in rule.state().items()}
        factors, rows = [], []
        for name in WIDTHS:
            weight, bias = state[f"factors.member_{name}.weight"], state[f"factors.member_{name}.bias"]
            factors.append(np.concatenate([weight, bias[:, None]], axis=1).reshape(2, 6, -1))
            rows.append(np.concatenate([given[name].double().numpy(), np.ones((5, 1))], axis=1))
        full = np.einsum("rfa,rfb,rfc->fabc", *factors)
        expected = np.einsum("fabc,na,nb,nc->nf", full, *rows) + state["bias"]
        np.testing.assert_allclose(rule.fuse(given).values.detach(), expected, rtol=1e-4, atol=1e-5)

    def test_stand_in_takes_the_place_of_an_absent_member(self) -> None:
        rule, given = self.trained(WIDTHS), features(WIDTHS, 5)
        stand_in = rule.state()["stand_ins.member_audio.vector"]
        without = rule.fuse({name: rows for name, rows in given.items() if name != "audio"})
        spoken = rule.fuse({**given, "audio": stand_in.expand(5, 3)})
        assert torch.equal(without.values, spoken.values)

    @pytest.mark.parametrize(("width", "rank"), [(0, 1), (6, 0), (6, 1.5)])
    def test_width_and_rank_must_be_whole_numbers(self, width: int, rank: int) -> None:
        with pytest.raises(RuleOptionError):
            BilinearFusion(WIDTHS, width, rank)


def train_on_halves(rule: FeatureRule, dropout: float) -> nn.Linear:
    """Train a rule and a linear head on the top and bottom halves of digits as two modalities."""
    _, labels, pixels = predictions("rule")
    head = nn.Linear(rule.width, 10)
    fit_features(
        rule, head, halves(pixels), labels, training=Training(steps=400, batch_rows=128, member_dropout=dropout)
    )
    return head


def halves(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"top": pixels[:, :32].float(), "bottom": pixels[:, 32:].float()}


@pytest.mark.parametrize("rule_class", [Concat, FeatureMean, FeatureAttention, GatedFusion, BilinearFusion])
def test_two_halves_of_a_digit_say_more_than_one_and_one_alone_still_answers(rule_class: type[FeatureRule]) -> None:
    torch.manual_seed(0)
    options = {} if rule_class is Concat else {"width": 32}
    rule = rule_class({"top": 32, "bottom": 32}, **options)
    head = train_on_halves(rule, dropout=0.3)
    _, truth, pixels = predictions("test")
    given = halves(pixels)
    with torch.no_grad():
        both = accuracy(head(rule(given)), truth)
        alone = [accuracy(head(rule({name: rows})), truth) for name, rows in given.items()]
    assert both > 0.9
    assert both > max(alone)
    assert min(alone) > 0.6


def test_given_weights_of_a_mean_are_trained_and_a_modality_that_is_noise_comes_to_count_less() -> None:
    torch.manual_seed(0)
    rule = FeatureMean({"top": 32, "noise": 32}, {"top": 1.0, "noise": 1.0})
    _, labels, pixels = predictions("rule")
    top = halves(pixels)["top"]
    given = {"top": top, "noise": 4 * torch.randn_like(top)}
    training = Training(steps=300, batch_rows=128, member_dropout=0.0, learning_rate=0.01)
    fit_features(rule, nn.Linear(32, 10), given, labels, training=training)
    weights = rule.to_spec(["top", "noise"])["weights"]
    assert weights["noise"] < 0.5 * weights["top"]
    again = FeatureMean.from_spec(["top", "noise"], weights, {"widths": {"top": 32, "noise": 32}})
    torch.testing.assert_close(again.fuse(given).values, rule.fuse(given).values)


def test_stand_in_learned_with_member_dropout_makes_a_missing_modality_cost_less() -> None:
    _, truth, pixels = predictions("test")
    scores = {}
    for dropout in (0.0, 0.3):
        torch.manual_seed(0)
        rule = GatedFusion({"top": 32, "bottom": 32}, width=32)
        head = train_on_halves(rule, dropout)
        with torch.no_grad():
            scores[dropout] = accuracy(head(rule({"top": halves(pixels)["top"]})), truth)
    assert scores[0.3] > scores[0.0] + 0.05


def test_training_is_repeatable_and_leaves_rule_and_head_frozen() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        rule = GatedFusion({"top": 32, "bottom": 32}, width=8)
        _, labels, pixels = predictions("rule")
        given = halves(pixels)
        given["top"] = given["top"].index_fill(0, torch.arange(5), float("nan"))
        head = nn.Linear(8, 10)
        fit_features(rule, head, given, labels, training=Training(steps=5))
        states.append({**rule.state(), **head.state_dict()})
    assert all(torch.equal(states[1][key], tensor) for key, tensor in states[0].items())
    assert all(torch.isfinite(tensor).all() for tensor in states[0].values())
    assert not any(parameter.requires_grad for parameter in (*rule.parameters(), *head.parameters()))
    spec = rule.to_spec(["top", "bottom"])
    again = GatedFusion.from_spec(spec["members"], None, spec["options"], rule.state())
    clean = halves(pixels)
    assert torch.equal(again.fuse(clean).values, rule.fuse(clean).values)


def test_training_data_that_do_not_fit_are_refused() -> None:
    rule, head = Concat({"top": 2, "bottom": 3}), nn.Linear(5, 2)
    given, labels = {"top": torch.zeros(4, 2), "bottom": torch.zeros(4, 3)}, torch.tensor([0, 1, 0, 1])
    with pytest.raises(RuleOptionError, match="bottom"):
        fit_features(rule, head, {"top": given["top"]}, labels)
    with pytest.raises(ShapeError, match="features of top"):
        fit_features(rule, head, {**given, "top": torch.zeros(3, 2)}, labels)
    with pytest.raises(RuleOptionError, match="labels"):
        fit_features(rule, head, given, labels.float())
    with pytest.raises(MemberCountError):
        fit_features(rule, head, given, labels, torch.ones(3, 4, dtype=torch.bool))
    with pytest.raises(ShapeError, match="present"):
        fit_features(rule, head, given, labels, torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(QuorumError):
        fit_features(rule, head, given, labels, torch.zeros(2, 4, dtype=torch.bool))
