"""Closed-form rules inside ``torch.compile``: one graph, the same answers."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor

from quorate.fusion import (
    RULES,
    BayesianModelAveraging,
    BayesianModelCombination,
    Borda,
    DempsterShafer,
    Fused,
    GeometricMean,
    InverseVariance,
    ListBorda,
    ListReciprocalRank,
    ListStandardScores,
    MajorityVote,
    Maximum,
    Mean,
    Median,
    Minimum,
    MixtureMoments,
    Product,
    QuantileAverage,
    QuantileMedian,
    ReciprocalRank,
    RegressionMedian,
    Rule,
    SoftVote,
    Threshold,
    TrimmedMean,
    WeightedMean,
    WeightedVote,
)
from tests.fusion.support.contract import every_mask

pytestmark = pytest.mark.long

CXX = shutil.which(os.environ.get("CXX", "g++"))
MEMBERS = 4
WEIGHTS = [0.1, 0.2, 0.3, 0.4]
CLOSED_FORM: list[Rule] = [
    Mean(MEMBERS),
    WeightedMean(WEIGHTS),
    GeometricMean(MEMBERS, WEIGHTS),
    Product(MEMBERS),
    Maximum(MEMBERS),
    Minimum(MEMBERS),
    Median(MEMBERS),
    TrimmedMean(MEMBERS, 0.3),
    MajorityVote(MEMBERS, tie="mean_probability"),
    WeightedVote(WEIGHTS, tie="heaviest_voter"),
    SoftVote(MEMBERS, tie="abstain"),
    Threshold(MEMBERS, threshold=0.3, at_least=1, reject=True),
    Borda(MEMBERS),
    ReciprocalRank(MEMBERS, WEIGHTS),
    BayesianModelAveraging([-1.0, -2.0, -3.0, -4.0]),
    BayesianModelCombination(WEIGHTS),
    DempsterShafer(MEMBERS, WEIGHTS),
    RegressionMedian(MEMBERS),
    InverseVariance(MEMBERS, WEIGHTS),
    MixtureMoments(MEMBERS),
    QuantileAverage(MEMBERS, WEIGHTS),
    QuantileMedian(MEMBERS),
    ListReciprocalRank(MEMBERS, WEIGHTS),
    ListBorda(MEMBERS),
    ListStandardScores(MEMBERS, WEIGHTS),
]


def outputs(rows: int) -> Tensor:
    return (2 * torch.randn(MEMBERS, rows, 6, generator=torch.Generator().manual_seed(5))).softmax(dim=-1)


def compiled(rule: Rule, backend: str) -> Any:
    torch._dynamo.reset()

    def fuse(given: Tensor, present: Tensor | None) -> Fused:
        return rule.fuse(given, present)

    return torch.compile(fuse, fullgraph=True, backend=backend)


def assert_alike(one: Fused, other: Fused) -> None:
    torch.testing.assert_close(one.values, other.values)
    torch.testing.assert_close(one.contributions, other.contributions)
    torch.testing.assert_close(one.coverage, other.coverage)
    if one.abstained is None or other.abstained is None:
        assert one.abstained is None or not one.abstained.any()
        assert other.abstained is None or not other.abstained.any()
    else:
        assert torch.equal(one.abstained, other.abstained)


def assert_compiles(rule: Rule, backend: str) -> None:
    fuse, masks = compiled(rule, backend), every_mask(MEMBERS)
    given = outputs(masks.shape[1])
    assert_alike(fuse(given, None), rule.fuse(given))
    spoiled = torch.where(masks.unsqueeze(-1), given, float("nan"))
    assert_alike(fuse(spoiled, masks), rule.fuse(spoiled, masks))


@pytest.mark.parametrize("rule", CLOSED_FORM, ids=lambda rule: rule.name)
def test_rule_is_one_graph_with_the_same_answers(rule: Rule) -> None:
    assert_compiles(rule, "eager")


@pytest.mark.slow  # up to a minute of g++ a rule
@pytest.mark.skipif(not CXX, reason="torch.compile's inductor needs a C++ compiler: install g++ or name one in CXX")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # inductor's own imports
@pytest.mark.parametrize("rule", CLOSED_FORM, ids=lambda rule: rule.name)
def test_rule_compiled_to_machine_code_gives_the_same_answers(rule: Rule) -> None:
    assert_compiles(rule, "inductor")


@pytest.mark.parametrize(
    "rule", [Mean(MEMBERS), GeometricMean(MEMBERS), DempsterShafer(MEMBERS, WEIGHTS)], ids=lambda rule: rule.name
)
def test_gradient_goes_through_a_compiled_rule(rule: Rule) -> None:
    slopes = []
    for fuse in (compiled(rule, "aot_eager"), rule.fuse):
        given = outputs(5).requires_grad_()
        (fuse(given, None).values ** 2).sum().backward()
        slopes.append(given.grad)
    torch.testing.assert_close(*slopes)


def test_row_without_members_fails_in_a_compiled_rule_too() -> None:
    present = torch.ones(MEMBERS, 3, dtype=torch.bool)
    present[:, 1] = False
    with pytest.raises(RuntimeError, match="one member with weight above 0 in every row"):
        compiled(Mean(MEMBERS), "eager")(outputs(3), present)


def test_every_closed_form_rule_is_compiled_here() -> None:
    outside = {"stacking", "output_attention", "gate", "dynamic_selection", "meta_des", "cascade", "bandit"}
    features = {name for name, entry in RULES.items() if entry.reads == ("features",)}
    sequences = {name for name, entry in RULES.items() if entry.sequences}
    assert {rule.name for rule in CLOSED_FORM} == set(RULES) - outside - features - sequences
