"""Votes and simple combiners against DESlib 0.3.7 and crowd-kit 1.4.2, on one table of five members."""

from __future__ import annotations

import pytest
import torch

from quorate.fusion import (
    MajorityVote,
    Maximum,
    Mean,
    Median,
    Minimum,
    Product,
    Rule,
    SoftVote,
    WeightedMean,
    WeightedVote,
)

# Nineteenths: twelve rows of five members' probabilities of three classes, drawn once.
NINETEENTHS = [
    [[7, 4, 8], [8, 7, 4], [5, 5, 9], [2, 7, 10], [8, 6, 5]],
    [[5, 8, 6], [5, 7, 7], [6, 6, 7], [12, 2, 5], [7, 2, 10]],
    [[5, 9, 5], [7, 9, 3], [3, 8, 8], [6, 4, 9], [7, 6, 6]],
    [[6, 8, 5], [2, 10, 7], [7, 7, 5], [6, 11, 2], [8, 7, 4]],
    [[5, 5, 9], [6, 5, 8], [7, 5, 7], [4, 7, 8], [6, 4, 9]],
    [[6, 6, 7], [3, 9, 7], [5, 9, 5], [8, 6, 5], [11, 4, 4]],
    [[7, 5, 7], [7, 8, 4], [6, 8, 5], [6, 9, 4], [10, 6, 3]],
    [[7, 7, 5], [9, 4, 6], [4, 6, 9], [10, 3, 6], [7, 8, 4]],
    [[5, 4, 10], [7, 8, 4], [9, 4, 6], [7, 7, 5], [6, 8, 5]],
    [[3, 6, 10], [6, 6, 7], [5, 6, 8], [3, 9, 7], [3, 10, 6]],
    [[10, 4, 5], [6, 6, 7], [9, 6, 4], [7, 5, 7], [6, 6, 7]],
    [[8, 3, 8], [4, 5, 10], [2, 7, 10], [8, 7, 4], [6, 5, 8]],
]
OUTPUTS = torch.tensor(NINETEENTHS, dtype=torch.float64).transpose(0, 1) / 19
WEIGHTS = [0.1, 0.31, 0.22, 0.24, 0.13]
# deslib.util.aggregation: majority_voting_rule, weighted_majority_voting_rule, average_rule, product_rule, median_rule,
# maximum_rule, minimum_rule, aggregate_proba_ensemble_weighted.
DESLIB: dict[str, tuple[Rule, list[int]]] = {
    "majority": (MajorityVote(5), [2, 1, 1, 1, 2, 0, 1, 0, 0, 2, 0, 2]),
    "weighted_majority": (WeightedVote(WEIGHTS), [2, 1, 1, 1, 2, 1, 1, 0, 0, 2, 0, 2]),
    "average": (Mean(5), [2, 0, 1, 1, 2, 1, 0, 0, 0, 2, 0, 2]),
    "product": (Product(5), [2, 2, 1, 1, 2, 1, 0, 0, 0, 2, 0, 2]),
    "median": (Median(5), [2, 2, 1, 1, 2, 0, 1, 0, 0, 2, 0, 2]),
    "maximum": (Maximum(5), [2, 0, 1, 1, 2, 0, 0, 0, 2, 1, 0, 2]),
    "minimum": (Minimum(5), [1, 0, 1, 1, 2, 1, 0, 0, 0, 1, 0, 2]),
    "weighted": (WeightedMean(WEIGHTS), [2, 0, 1, 1, 2, 1, 1, 0, 0, 2, 0, 2]),
    "soft_vote": (SoftVote(5, WEIGHTS), [2, 0, 1, 1, 2, 1, 1, 0, 0, 2, 0, 2]),
}
# crowdkit.aggregation.MajorityVote over the members' first choices: probas_, without skills and with WEIGHTS as skills.
CROWD_KIT = [
    [0.4, 0.0, 0.6],
    [0.2, 0.4, 0.4],
    [0.2, 0.6, 0.2],
    [0.4, 0.6, 0.0],
    [0.2, 0.0, 0.8],
    [0.4, 0.4, 0.2],
    [0.4, 0.6, 0.0],
    [0.6, 0.2, 0.2],
    [0.4, 0.4, 0.2],
    [0.0, 0.4, 0.6],
    [0.6, 0.0, 0.4],
    [0.4, 0.0, 0.6],
]
CROWD_KIT_SKILLED = [
    [0.44, 0.0, 0.56],
    [0.24, 0.41, 0.35],
    [0.13, 0.63, 0.24],
    [0.35, 0.65, 0.0],
    [0.22, 0.0, 0.78],
    [0.37, 0.53, 0.1],
    [0.23, 0.77, 0.0],
    [0.65, 0.13, 0.22],
    [0.46, 0.44, 0.1],
    [0.0, 0.37, 0.63],
    [0.56, 0.0, 0.44],
    [0.34, 0.0, 0.66],
]


@pytest.mark.parametrize("name", DESLIB)
def test_rule_elects_the_classes_that_deslib_elects(name: str) -> None:
    rule, winners = DESLIB[name]
    assert rule.fuse(OUTPUTS).values.argmax(dim=-1).tolist() == winners


@pytest.mark.parametrize(("rule", "shares"), [(MajorityVote(5), CROWD_KIT), (WeightedVote(WEIGHTS), CROWD_KIT_SKILLED)])
def test_shares_of_votes_are_those_of_crowd_kit(rule: Rule, shares: list[list[float]]) -> None:
    torch.testing.assert_close(rule.fuse(OUTPUTS).values, torch.tensor(shares))
