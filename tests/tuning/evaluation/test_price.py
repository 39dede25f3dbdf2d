"""A gain has to be worth its milliseconds."""

import numpy as np
import pytest
from scipy.special import softmax

from quorate.tuning import Outputs, choose
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.evaluation.price import Cost, Price

ALONE = {name: frozenset([name]) for name in "abc"}


def price(per_latency_ms, per_device_ms, latency_ms=(1.0, 2.0, 3.0), behind=ALONE):
    latency = dict(zip("abc", latency_ms, strict=True))
    return Price(per_latency_ms, per_device_ms, latency, {"a": 1.0, "b": 1.0, "c": 1.0, "trunk": 4.0}, behind)


@pytest.fixture(scope="module")
def rows():
    """Three members that are equally good, and better together."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 1200)
    probs = softmax(2 * (np.eye(3)[labels] + random.normal(0, 1, (3, 1200, 3))), axis=2).astype(np.float32)
    return [Outputs(tuple("abc"), probs[:, part], labels[part]) for part in (slice(0, 600), slice(600, None))]


def test_latency_is_the_slowest_members_and_a_trunk_that_two_heads_share_computes_once():
    shared = {"a": frozenset(["a", "trunk"]), "b": frozenset(["b", "trunk"]), "c": frozenset(["c"])}
    given = price(1.0, 1.0, behind=shared)
    assert given.cost(Recipe("mean", ("a", "b"))) == Cost(2.0, 6.0)
    assert given.cost(Recipe("weighted_mean", ("a", "c"), {"a": 0.0, "c": 1.0})) == Cost(3.0, 1.0)
    assert given.cost(None) == Cost(0.0, 0.0)


def test_an_ensemble_that_is_better_is_not_served_where_its_milliseconds_cost_more_than_it_gains(rows):
    free = choose(*rows, price=price(0.0, 0.0))
    assert free.decision == "ensemble"
    gain = free.alternatives[free.best_single].gain.difference
    assert gain > 0.2
    assert choose(*rows, price=price(0.0, gain / 8)).decision == "ensemble"
    dear = choose(*rows, price=price(0.0, 0.6 * gain))
    assert dear.decision == "single"
    assert dear.alternatives["uniform"].cost == Cost(3.0, 3.0)
    assert "net of what milliseconds cost" in " ".join(dear.table().lines)


def test_of_members_that_are_equally_good_the_quickest_is_served(rows):
    assert choose(*rows, price=price(10.0, 10.0, (5.0, 0.5, 5.0))).best_single == "b"


def test_gains_are_those_without_a_price_less_the_difference_in_price(rows):
    free, dear = choose(*rows), choose(*rows, price=price(0.0, 0.01))
    assert dear.recommended == free.recommended
    members = free.alternatives[free.recommended].members
    expected = free.alternatives["a"].gain.difference - 0.01 * (members - 1)
    assert dear.alternatives["a"].gain.difference == pytest.approx(expected, abs=1e-9)
    assert dear.alternatives["a"].value == free.alternatives["a"].value
