"""The cascade: when a row leaves, what it leaves with, and thresholds that keep the accuracy."""

from __future__ import annotations

import pytest
import torch

from quorate.fusion import Cascade, Mean, Rule, WeightedMean, fit_cascade
from quorate.fusion.errors import QuorumError, RuleOptionError
from tests.fusion.support.contract import FusionContract, assert_same_bits, every_mask, names
from tests.fusion.support.digits import MEMBERS, accuracy, predictions

# M members, B batch, C classes


def staged(num_members: int) -> list[list[str]]:
    members = names(num_members)
    return [stage for stage in (members[:1], members[1:3], members[3:]) if stage]


class TestCascade(FusionContract):
    absent_is_left_out = False

    def make(self, num_members: int) -> Rule:
        stages = staged(num_members)
        return Cascade(names(num_members), stages, [0.9, 0.8][: len(stages) - 1])

    def test_coverage_is_one_when_all_answered_and_less_otherwise(self) -> None:
        masks = every_mask(3)
        coverage = Cascade(names(3), staged(3), [2.0]).fuse(self.outputs(3, 7), masks).coverage
        torch.testing.assert_close(coverage, masks.float().mean(0))


class TestWeightedCascade(TestCascade):
    def make(self, num_members: int) -> Rule:
        stages = staged(num_members)
        weights = [0.5 + index for index in range(num_members)]
        return Cascade(names(num_members), stages, [0.9, 0.8][: len(stages) - 1], weights=weights)

    def only(self, rule: Rule, kept: list[int]) -> Rule:
        """Stages lose the members that are left out, too."""
        spec, members = rule.to_spec(names(rule.num_members)), [f"member{index}" for index in kept]
        stages = [[name for name in stage if name in members] for stage in spec["options"]["stages"]]
        options = {**spec["options"], "stages": [s for s in stages if s]}
        options["thresholds"] = options["thresholds"][: len(options["stages"]) - 1]
        return Cascade.from_spec(members, {name: spec["weights"][name] for name in members}, options)


class TestAgreementCascade(TestCascade):
    def make(self, num_members: int) -> Rule:
        members = names(num_members)
        stages = [members[:2], members[2:]] if num_members > 2 else [members]
        return Cascade(members, stages, [1.0][: len(stages) - 1], measure="agreement")


SURE, UNSURE, OTHER = [0.95, 0.05, 0.0], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]


def test_sure_row_leaves_with_the_first_stage_and_an_unsure_one_asks_further() -> None:
    cascade = Cascade(["small", "large"], [["small"], ["large"]], [0.9])
    outputs = torch.tensor([[SURE, UNSURE], [OTHER, OTHER]])
    fused = cascade.fuse(outputs)
    torch.testing.assert_close(fused.values, torch.tensor([SURE, [0.3, 0.6, 0.1]]))
    assert fused.contributions.tolist() == [[1.0, 0.5], [0.0, 0.5]]
    assert fused.coverage.tolist() == [1.0, 1.0]


def test_server_asking_stage_by_stage_gets_what_fuse_gives_from_everything() -> None:
    cascade = Cascade(names(4), [["member2"], ["member0", "member3"], ["member1"]], [0.8, 0.7])
    outputs = TestCascade().outputs(4, 60)
    present = torch.rand(4, 60, generator=torch.Generator().manual_seed(0)) < 0.8
    present[1] |= ~present.any(dim=0)
    asked, left = torch.zeros(4, 60, dtype=torch.bool), torch.ones(60, dtype=torch.bool)
    stages_left_at = []
    for number, stage in enumerate(cascade.stages):
        for name in stage:
            asked[names(4).index(name)] = left
        unseen = torch.where((asked & present).unsqueeze(-1), outputs, float("nan"))
        done = cascade.decide(number, unseen, asked & present)
        stages_left_at.append(int((left & done).sum()))
        left = left & ~done
    assert not left.any()
    assert min(stages_left_at) > 0
    assert_same_bits(cascade.fuse(unseen, asked & present), cascade.fuse(outputs, present))


def test_cascade_that_never_leaves_is_the_mean_and_one_that_always_does_its_first_stage() -> None:
    outputs = TestCascade().outputs(3, 9)
    stages = [["member0", "member1"], ["member2"]]
    torch.testing.assert_close(Cascade(names(3), stages, [2.0]).fuse(outputs).values, Mean(3).fuse(outputs).values)
    always = Cascade(names(3), stages, [0.0]).fuse(outputs).values
    torch.testing.assert_close(always, Mean(2).fuse(outputs[:2]).values)
    weighted = Cascade(names(3), stages, [2.0], weights=[1, 2, 3]).fuse(outputs).values
    torch.testing.assert_close(weighted, WeightedMean([1.0, 2.0, 3.0]).fuse(outputs).values)


def test_agreement_counts_first_choices_and_an_absent_member_agrees_with_nobody() -> None:
    members = ["a", "b", "c", "last"]
    outputs = torch.tensor([[SURE] * 4, [UNSURE, UNSURE, OTHER, UNSURE], [SURE, OTHER, OTHER, SURE], [SURE] * 4])
    present = torch.ones(4, 4, dtype=torch.bool)
    present[2, 3] = False
    for threshold, leaves in ((1.0, [True, False, False, False]), (0.6, [True, True, True, True])):
        cascade = Cascade(members, [["a", "b", "c"], ["last"]], [threshold], measure="agreement")
        assert cascade.decide(0, outputs, present).tolist() == leaves


def test_row_whose_first_stage_is_absent_is_decided_by_the_next() -> None:
    cascade = Cascade(["small", "large"], [["small"], ["large"]], [0.0])
    outputs = torch.tensor([[SURE], [OTHER]])
    fused = cascade.fuse(outputs, torch.tensor([[False], [True]]))
    torch.testing.assert_close(fused.values, torch.tensor([OTHER]))
    assert fused.coverage.tolist() == [0.5]


def test_row_with_only_members_of_weight_zero_is_a_typed_error() -> None:
    cascade = Cascade(["small", "large"], [["small"], ["large"]], [0.5], weights=[1.0, 0.0])
    with pytest.raises(QuorumError):
        cascade.fuse(torch.tensor([[SURE], [OTHER]]), torch.tensor([[False], [True]]))


@pytest.mark.parametrize(
    ("stages", "thresholds", "more"),
    [
        ([["a"]], [], {}),
        ([["a"], ["b"], ["b"]], [0.5, 0.5], {}),
        ([["a"], ["b", "c"]], [0.5], {}),
        ([["a"], [], ["b"]], [0.5, 0.5], {}),
        ([["a"], ["b"]], [], {}),
        ([["a"], ["b"]], [float("nan")], {}),
        ([["a"], ["b"]], [-0.1], {}),
        ([["a"], ["b"]], [0.5], {"measure": "entropy"}),
        ([["a"], ["b"]], [0.5], {"measure": "agreement"}),
        ([["a"], ["b"]], [0.5], {"weights": [0.0, 0.0]}),
        ([["a"], ["b"]], [0.5], {"weights": [1.0]}),
    ],
)
def test_cascade_that_cannot_be_is_refused(
    stages: list[list[str]], thresholds: list[float], more: dict[str, object]
) -> None:
    with pytest.raises(RuleOptionError):
        Cascade(["a", "b"], stages, thresholds, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"stages": 3, "thresholds": []}, {"stages": [["a"], ["b"]], "thresholds": ["x"]}])
def test_spec_with_options_of_another_type_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(RuleOptionError, match="lists"):
        Cascade.from_spec(["a", "b"], None, options)


def test_spec_without_stages_or_thresholds_is_refused() -> None:
    for options in ({"stages": [["a"], ["b"]]}, {"thresholds": [0.5]}):
        with pytest.raises(RuleOptionError, match="no default"):
            Cascade.from_spec(["a", "b"], None, options)


@pytest.mark.parametrize("measure", ["confidence", "agreement"])
@pytest.mark.parametrize("max_loss", [0.0, 0.02])
def test_fitted_thresholds_keep_the_accuracy_of_all_members_and_ask_fewer(measure: str, max_loss: float) -> None:
    outputs, labels, _ = predictions("rule")
    stages = [["top", "middle"], ["bottom"]] if measure == "agreement" else [["middle"], ["top"], ["bottom"]]
    cascade = fit_cascade(MEMBERS, stages, outputs, labels, max_loss=max_loss, measure=measure)
    fused = cascade.fuse(outputs)
    assert accuracy(fused.values, labels) >= accuracy(Mean(3).fuse(outputs).values, labels) - max_loss - 1e-6
    left_early = (fused.contributions[MEMBERS.index("bottom")] == 0).float().mean()
    assert left_early > 0.2


def test_fitted_threshold_is_the_lowest_that_keeps_the_accuracy() -> None:
    outputs, labels, _ = predictions("rule")
    stages = [["middle"], ["top", "bottom"]]
    (threshold,) = fit_cascade(MEMBERS, stages, outputs, labels).thresholds
    everybody = accuracy(Mean(3).fuse(outputs).values, labels)
    scores = outputs[MEMBERS.index("middle")].amax(-1)
    kept = {
        candidate: accuracy(Cascade(MEMBERS, stages, [candidate]).fuse(outputs).values, labels) >= everybody - 1e-6
        for candidate in scores.unique().tolist()
    }
    assert threshold == min(candidate for candidate, keeps in kept.items() if keeps)


def test_cascade_learns_the_same_in_any_order_and_asks_on_where_nobody_may_leave() -> None:
    outputs, labels, _ = predictions("rule")
    stages = [["middle"], ["top"], ["bottom"]]
    one = fit_cascade(MEMBERS, stages, outputs, labels)
    order = [2, 0, 1]
    moved = fit_cascade([MEMBERS[index] for index in order], stages, outputs[order], labels)
    assert moved.thresholds == one.thresholds
    # A first stage that is always wrong, and sure of it.
    wrong = torch.nn.functional.one_hot((labels + 1) % 10, 10).float()
    right = torch.nn.functional.one_hot(labels, 10).float()
    useless = fit_cascade(names(3), [["member0"], ["member1", "member2"]], torch.stack([wrong, right, right]), labels)
    assert useless.thresholds[0] > 1
    with pytest.raises(RuleOptionError, match="max_loss"):
        fit_cascade(MEMBERS, stages, outputs, labels, max_loss=-1.0)
