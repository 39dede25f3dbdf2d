"""A bandit goes live when it is shown to earn more and to keep the floor; what breaks the floor is replaced at once."""

from typing import Any

import numpy as np
import pytest
import torch

from quorate.deployments.learning.online.bandit.deciding import ASK_ALL, PolicyPublisher
from quorate.deployments.learning.online.bandit.learner import BanditLearner
from tests.deployments.support.policy_streams import BROKEN, USELESS, World, fitted, served

ROWS = 4000


def test_where_nothing_changes_and_the_floor_is_kept_what_was_deployed_or_better_stays():
    random = np.random.default_rng(0)
    rule = fitted(World(), random)
    found = served(rule, [(World(), ROWS)], random)
    assert found.right.mean() >= found.whole.mean() - 0.02
    assert not any(one["at_once"] for one in found.changes)


def test_a_cheap_member_that_breaks_breaks_the_floor_and_then_everybody_is_asked():
    random = np.random.default_rng(1)
    rule = fitted(World(), random)
    found = served(rule, [(World(), 1000), (BROKEN, ROWS)], random)
    assert found.changes[0]["at_once"]
    assert found.changes[0]["asks_all"]
    assert found.calls[-500:].mean() > 1.5
    assert found.right[-1000:].mean() >= found.whole[-1000:].mean() - 0.02


def test_dear_members_that_become_useless_are_asked_no_more():
    random = np.random.default_rng(2)
    rule = fitted(World(), random)
    found = served(rule, [(World(), 1000), (USELESS, ROWS)], random)
    assert found.changes
    assert found.calls[-500:].mean() < found.calls[:1000].mean() - 0.5
    assert found.right[-500:].mean() > found.whole[-500:].mean() + 0.1


def test_of_permuted_labels_nothing_goes_live():
    wrong = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        rule = fitted(World(), random)
        wrong += bool(served(rule, [(World(), 1500)], random, permuted=True).changes)
    assert wrong == 0


def test_what_was_learned_and_breaks_the_floor_is_replaced_and_what_was_deployed_comes_back_when_it_keeps_it():
    random = np.random.default_rng(3)
    rule = fitted(World(), random, explore=0.2, max_loss=0.05)
    learner = BanditLearner("fused", rule)
    asks_nobody = rule.with_models(torch.zeros_like(rule.theta), 1.0)
    learner.went_live(
        type("Wish", (), {"rule": asks_nobody, "back": False, "gain": 0.1, "decided_by": 9, "at_once": False})(), 0
    )
    found = served(rule, [(World(), ROWS)], random, learner=learner)
    assert found.changes[1]["asks_all"]
    assert found.changes[2]["taken_back"]
    assert learner.publisher.live is rule


def test_after_a_restart_from_the_same_rows_the_same_is_wished_for():
    random = np.random.default_rng(1)
    rule = fitted(World(), random)
    learner = BanditLearner("fused", rule, at_once=False)
    taken = list[Any]()
    served(rule, [(BROKEN, 2500)], random, learner=learner, taken=taken)
    again = BanditLearner("fused", rule, at_once=False)
    for rows in taken:
        again.take(rows)
    assert learner.wish is not None
    assert again.wish is not None
    assert again.wish.rule.price == learner.wish.rule.price == ASK_ALL
    assert torch.equal(again.wish.rule.theta, learner.wish.rule.theta)
    assert again.labels == learner.labels


def test_a_policy_chooses_of_each_row_the_set_that_promises_most_by_trying_them_all():
    random = np.random.default_rng(4)
    rule, taken = fitted(World(), random), list[Any]()
    served(rule, [(World(), 300)], random, taken=taken)
    for rows in taken:
        promised = [
            [float(row @ theta) - rule.price * float(cost) for theta, cost in zip(rule.theta.numpy(), rule.arm_costs,
                                                                                   strict=True)]
            for row in rows.context
        ]  # fmt: skip
        assert PolicyPublisher.chosen(rule, rows).tolist() == [max(range(4), key=one.__getitem__) for one in promised]


@pytest.mark.parametrize("price", [0.05, -2.0])
def test_policies_are_compared_at_the_deployed_price_or_at_what_the_floor_allows(price):
    rule = fitted(World(), np.random.default_rng(0), max_loss=0.03).at_price(price)
    assert PolicyPublisher(rule).price == (price if price > 0 else 0.03)
    assert PolicyPublisher(rule.at_price(1.8)).price == pytest.approx(0.3)
