"""The bandit: what it asks, what it learns of rows that were asked otherwise, and that its floor holds on new rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from quorate.fusion import Bandit, Rule, fit_bandit, proven_price
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.learned.bandit import contexts
from tests.fusion.support.contract import FusionContract, assert_same_bits, every_mask, names
from tests.fusion.support.digits import MEMBERS, predictions

# M members, N rows, C classes, K arms


def spoken(num_members: int, rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(num_members, rows, 5, generator=generator)).softmax(dim=-1)


def made(num_members: int, explore: float = 0.3, price: float = 0.0) -> Bandit:
    members = names(num_members)
    others = members[1:]
    arms = [[], *([name] for name in others[:1]), others] if num_members > 2 else [[], others][:num_members]
    labels = torch.randint(0, 5, (80,), generator=torch.Generator().manual_seed(1))
    weights = [0.5 + place for place in range(num_members)]
    outputs = spoken(num_members, 80)
    return fit_bandit(members, members[:1], arms, outputs, labels, weights=weights, explore=explore).at_price(price)


class TestBandit(FusionContract):
    absent_is_left_out = False
    explore = 0.3

    def make(self, num_members: int) -> Rule:
        return made(num_members, self.explore)

    def test_gradient_is_the_slope_of_the_answer(self) -> None:
        self.explore = 0.0  # what is drawn is drawn anew with every change of what was said
        super().test_gradient_is_the_slope_of_the_answer()

    def test_coverage_is_one_when_all_answered_and_less_otherwise(self) -> None:
        rule = fit_bandit(names(3), ["member0"], [["member1", "member2"]], self.outputs(3, 9), torch.arange(9) % 5)
        masks = every_mask(3)
        torch.testing.assert_close(rule.fuse(self.outputs(3, 7), masks).coverage, masks.float().mean(0))


def test_a_server_that_asks_whom_it_selects_gets_what_fuse_gives_from_everything() -> None:
    rule, outputs = made(4), spoken(4, 200, 3)
    present = torch.rand(4, 200, generator=torch.Generator().manual_seed(0)) < 0.9
    present[1] |= ~present.any(dim=0)
    first = torch.zeros(4, 200, dtype=torch.bool)
    first[0] = True
    unseen = torch.where((first & present).unsqueeze(-1), outputs, float("nan"))
    asked = rule.select(unseen, first & present)
    assert asked[0].all()
    assert asked[1:, ~present[0]].all()  # nothing to choose by: everybody
    assert 0 < asked[3].float().mean() < 1
    seen = torch.where((asked & present).unsqueeze(-1), outputs, float("nan"))
    enough = (asked & present).any(dim=0)
    rows = rule.fuse(seen[:, enough], (asked & present)[:, enough])
    assert_same_bits(rows, rule.fuse(outputs[:, enough], present[:, enough]))


def test_what_is_recorded_in_half_precision_is_decided_the_same_again() -> None:
    rule, outputs = made(4), spoken(4, 500, 5)
    everyone = torch.ones(4, 500, dtype=torch.bool)
    assert torch.equal(rule.select(outputs, everyone), rule.select(outputs.half().float(), everyone))


def test_arms_are_pulled_as_often_as_their_chances_say() -> None:
    rule, outputs = made(4, explore=0.3), spoken(4, 20_000, 7)
    everyone = torch.ones(4, 20_000, dtype=torch.bool)
    chances = rule.chances(outputs, everyone)
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(20_000, dtype=torch.float64))
    assert chances[:, rule.everyone].min() == pytest.approx(0.3)
    asked = rule.select(outputs, everyone)
    pulled = [asked[1:].sum(dim=0) == len(arm) for arm in rule.arms]
    shares = torch.stack([one.double().mean() for one in pulled])
    torch.testing.assert_close(shares, chances.mean(dim=0), atol=0.01, rtol=0)


def test_each_arms_model_is_scikit_learns_ridge_of_being_right() -> None:
    outputs, labels, _ = predictions("rule")
    arms = [[], ["middle"], ["bottom", "middle"]]
    rule = fit_bandit(MEMBERS, ["top"], arms, outputs, labels, ridge=2.0)
    context = contexts(outputs[:1].half(), torch.ones(1, dtype=torch.float64)).numpy()
    for arm, theta in zip(arms, rule.network.theta.numpy(), strict=True):
        rows = [MEMBERS.index(name) for name in ["top", *arm]]
        right = (outputs[rows].double().mean(dim=0).argmax(dim=1) == labels).double().numpy()
        expected = Ridge(alpha=2.0, fit_intercept=False, solver="cholesky").fit(context, right).coef_
        np.testing.assert_allclose(theta, expected, atol=1e-8)


def test_rows_of_which_only_some_were_asked_teach_what_all_would_have() -> None:
    outputs, labels = spoken(3, 60_000, 9), torch.randint(0, 5, (60_000,), generator=torch.Generator().manual_seed(2))
    outputs[1, torch.arange(60_000), labels] += outputs[0].amax(dim=1)  # the dear one is right where the cheap is sure
    outputs = outputs / outputs.sum(dim=2, keepdim=True)
    arms = [[], ["member1"], ["member1", "member2"]]
    whole = fit_bandit(names(3), ["member0"], arms, outputs, labels)
    logged = fit_bandit(names(3), ["member0"], arms, outputs[:, :200], labels[:200], explore=0.6)
    everyone = torch.ones(3, 60_000, dtype=torch.bool)
    chances = logged.chances(outputs, everyone)
    asked = logged.select(outputs, everyone)
    part = fit_bandit(names(3), ["member0"], arms, outputs, labels, asked, chances=chances)
    context = contexts(outputs[:1].half(), torch.ones(1, dtype=torch.float64))
    apart = (context @ (part.network.theta - whole.network.theta).T).abs().mean(dim=0)
    assert apart.max() < 0.02


def drawn(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """A cheap member that knows when it is unsure, and two dear ones that are right there."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, rows)
    said = np.full((3, rows, 5), 0.01)
    sure = random.uniform(0.3, 1, rows)
    for member, skill in enumerate((sure, np.full(rows, 0.9), np.full(rows, 0.93))):
        right = random.uniform(size=rows) < skill
        top = np.where(right, labels, (labels + random.integers(1, 5, rows)) % 5)
        said[member, np.arange(rows), top] += skill if member == 0 else 1.0
    return torch.from_numpy(said / said.sum(axis=2, keepdims=True)).float(), torch.from_numpy(labels)


def test_the_floor_holds_on_new_rows_as_often_as_stated_and_dear_members_are_spared() -> None:
    new, truth = drawn(5000, 0)
    arms = [[], ["member1"], ["member2"], ["member1", "member2"]]
    broken, asked = 0, []
    for seed in range(1, 21):
        fitting, labels = drawn(1500, seed)
        rule = fit_bandit(names(3), ["member0"], arms, fitting[:, :500], labels[:500], explore=0.02)
        proven = proven_price(rule, fitting[:, 500:], labels[500:], max_loss=0.03, confidence=0.9, seed=seed)
        assert proven is not None
        everyone = torch.ones(3, 5000, dtype=torch.bool)
        answered = (proven.fuse(new).values.argmax(dim=1) == truth).float().mean()
        whole = (new.mean(dim=0).argmax(dim=1) == truth).float().mean()
        broken += int(answered < whole - 0.03)
        asked.append(float(proven.select(new, everyone)[1:].float().mean()))
    assert broken <= 2
    assert np.mean(asked) < 0.8


def test_a_loss_that_cannot_be_shown_gives_no_price() -> None:
    fitting, labels = drawn(60, 1)
    rule = fit_bandit(names(3), ["member0"], [[], ["member1", "member2"]], fitting, labels)
    assert proven_price(rule, fitting, labels, max_loss=0.0, confidence=0.99) is None


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"arms": [[], ["member1"], ["member2"]]}, "one of them all of these"),
        ({"first": []}, "name some of member0"),
        ({"costs": {"member1": 1.0}}, "give member1, member2 a number above 0 each"),
        ({"explore": 1.5}, "a share of rows"),
        ({"max_loss": 1.5}, "a share of rows"),
        ({"max_loss": 0.1, "confidence": 0.0}, "above 0 and below 1"),
        ({"price": float("nan")}, "a finite number"),
    ],
)
def test_options_that_say_nothing_are_refused(changed: dict, sentence: str) -> None:
    rule = made(3)
    with pytest.raises(RuleOptionError, match=sentence):
        Bandit.from_spec(names(3), None, {**rule.options, **changed}, rule.state())
