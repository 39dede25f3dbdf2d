"""Closed-form rules against numbers that others computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import gmean, rankdata, trim_mean
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from quorate.fusion import (
    BayesianModelAveraging,
    Borda,
    DempsterShafer,
    GeometricMean,
    InverseVariance,
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
from quorate.fusion.errors import QuorumError, RuleOptionError

# The worked example of the simple combiners in Kuncheva 2004, "Combining Pattern Classifiers", chapter 5.
TABLE = torch.tensor([[0.1, 0.5, 0.4], [0, 0, 1], [0.4, 0.3, 0.4], [0.2, 0.7, 0.1], [0.1, 0.8, 0.2]]).unsqueeze(1)


def rows(*members: list[float]) -> Tensor:
    """(M, 1, C)."""
    return torch.tensor(members).unsqueeze(1)


def many(num_members: int, num_classes: int = 6) -> Tensor:
    return torch.randn(num_members, 40, num_classes, generator=torch.Generator().manual_seed(3)).softmax(-1)


@pytest.mark.parametrize(
    ("rule", "winner"), [(Mean(5), 1), (Product(5), 2), (Minimum(5), 2), (Maximum(5), 2), (Median(5), 1)]
)
def test_known_table_elects_the_known_classes(rule: Rule, winner: int) -> None:
    assert rule.fuse(TABLE).values.argmax().item() == winner


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_votes_are_those_of_scikit_learn(voting: str) -> None:
    x, y = load_iris(return_X_y=True)
    models = [
        ("nb", GaussianNB()),
        ("tree", DecisionTreeClassifier(max_depth=1)),
        ("lr", LogisticRegression(max_iter=500)),
    ]
    weights = [0.2, 0.5, 0.4]
    theirs = VotingClassifier(models, voting=voting, weights=weights).fit(x[::2], y[::2])
    outputs = torch.tensor(np.stack([model.predict_proba(x) for model in theirs.estimators_]))
    rule = WeightedVote(weights) if voting == "hard" else SoftVote(3, weights)
    ours = rule.fuse(outputs).values
    assert np.array_equal(ours.argmax(-1).numpy(), theirs.predict(x))
    if voting == "soft":
        np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(x), rtol=1e-6, atol=1e-7)


def test_geometric_mean_is_scipys() -> None:
    weights = [0.5, 0.2, 0.3]
    theirs = gmean(many(3).double().numpy(), axis=0, weights=np.array(weights)[:, None, None])
    ours = GeometricMean(3, weights).fuse(many(3)).values.numpy()
    np.testing.assert_allclose(ours, theirs / theirs.sum(-1, keepdims=True), rtol=3e-6)


def test_geometric_mean_is_scipys_weighted_logarithms_less_their_logsumexp() -> None:
    weights = np.array([0.5, 0.2, 0.3])
    logs = np.tensordot(weights, np.log(many(3).double().numpy()), axes=1)
    ours = GeometricMean(3, weights.tolist()).fuse(many(3)).values.double().log().numpy()
    np.testing.assert_allclose(ours, logs - logsumexp(logs, axis=-1, keepdims=True), rtol=3e-6)


def test_geometric_mean_counts_a_zero_as_the_floor() -> None:
    fused = GeometricMean(2, floor=0.01).fuse(rows([0.0, 1.0], [0.5, 0.5])).values[0]
    raw = torch.tensor([math.sqrt(0.01 * 0.5), math.sqrt(0.5)])
    torch.testing.assert_close(fused, raw / raw.sum())


@pytest.mark.parametrize("num_members", [1, 2, 3, 5, 8, 11, 16, 32, 33])
@pytest.mark.parametrize("proportion", [0.0, 0.1, 0.25, 0.4])
def test_trimmed_mean_is_scipys_for_every_number_of_members(num_members: int, proportion: float) -> None:
    theirs = trim_mean(many(num_members).double().numpy(), proportion, axis=0)
    ours = TrimmedMean(num_members, proportion).fuse(many(num_members)).values.numpy()
    np.testing.assert_allclose(ours, theirs / theirs.sum(-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("num_members", [1, 2, 3, 5, 8, 11, 16, 32, 33])
def test_median_is_numpys_for_every_number_of_members(num_members: int) -> None:
    outputs = many(num_members) - 0.1
    np.testing.assert_allclose(
        RegressionMedian(num_members).fuse(outputs).values.numpy(), np.median(outputs.numpy(), axis=0), rtol=1e-6
    )


def test_median_and_product_that_leave_no_class_fall_back_to_the_mean() -> None:
    outputs = rows([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    for rule in (Median(3), Product(3), Minimum(3)):
        torch.testing.assert_close(rule.fuse(outputs).values, torch.full((1, 3), 1 / 3))


def test_product_of_many_members_does_not_underflow() -> None:
    outputs = torch.full((200, 1, 3), 1e-30)
    outputs[7, :, 1] = 2e-30
    torch.testing.assert_close(Product(200).fuse(outputs).values, torch.tensor([[0.25, 0.5, 0.25]]))


@pytest.mark.parametrize("kind", ["tiny", "huge"])
def test_product_far_outside_float64_is_that_of_logarithms(kind: str) -> None:
    outputs = many(60).double() * {"tiny": 1e-38, "huge": 1e37}[kind]
    logs = np.log(outputs.float().double().numpy()).sum(axis=0)
    expected = np.exp(logs - logsumexp(logs, axis=-1, keepdims=True))
    np.testing.assert_allclose(Product(60).fuse(outputs).values.numpy(), expected, rtol=1e-5, atol=1e-30)


def test_product_is_the_normalised_product() -> None:
    product = many(9).double().numpy().prod(axis=0)
    ours = Product(9).fuse(many(9)).values.numpy()
    np.testing.assert_allclose(ours, product / product.sum(-1, keepdims=True), rtol=2e-6)


def test_borda_points_are_those_of_scipys_ranks() -> None:
    outputs = (many(4) * 10).round() / 10
    points = (rankdata(outputs.numpy(), axis=-1) - 1).mean(axis=0)
    ours = Borda(4).fuse(outputs).values.numpy()
    np.testing.assert_allclose(ours, points / points.sum(-1, keepdims=True), rtol=1e-6)


def test_reciprocal_rank_points_are_those_of_scipys_ranks() -> None:
    outputs = (many(4) * 10).round() / 10
    points = (1 / (60 + rankdata(-outputs.numpy(), axis=-1))).mean(axis=0)
    ours = ReciprocalRank(4).fuse(outputs).values.numpy()
    np.testing.assert_allclose(ours, points / points.sum(-1, keepdims=True), rtol=1e-6)


def test_zadehs_paradox_elects_the_class_that_both_find_barely_possible() -> None:
    """Zadeh 1979, "On the validity of Dempster's rule of combination"."""
    outputs = rows([0.99, 0.01, 0.0], [0.0, 0.01, 0.99])
    torch.testing.assert_close(DempsterShafer(2).fuse(outputs).values, torch.tensor([[0.0, 1.0, 0.0]]))


def test_discounting_dissolves_zadehs_paradox() -> None:
    """By hand, each member believed to 0.9: masses .9 p + .1 multiplied, .01 undecided."""
    outputs = rows([0.99, 0.01, 0.0], [0.0, 0.01, 0.99])
    first = 0.991 * 0.1 - 0.01
    second = 0.109**2 - 0.01
    total = 2 * first + second + 0.01
    expected = torch.tensor([[first + 0.01 / 3, second + 0.01 / 3, first + 0.01 / 3]]) / total
    torch.testing.assert_close(DempsterShafer(2, [0.9, 0.9]).fuse(outputs).values, expected)


def test_evidence_that_contradicts_itself_wholly_abstains() -> None:
    fused = DempsterShafer(2).fuse(rows([1.0, 0.0], [0.0, 1.0]))
    assert fused.abstained is not None
    assert fused.abstained.all()
    assert not fused.values.any()


def test_tie_goes_where_the_policy_says() -> None:
    outputs = rows([0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.0, 0.2, 0.8], [0.4, 0.5, 0.1], [0.9, 0.1, 0.0])
    assert MajorityVote(5).fuse(outputs).values.tolist() == [pytest.approx([0.4, 0.4, 0.2])]
    by_mean = MajorityVote(5, tie="mean_probability").fuse(outputs)
    assert by_mean.values.tolist() == [pytest.approx([0.0, 0.8, 0.2])]
    abstained = MajorityVote(5, tie="abstain").fuse(outputs)
    assert abstained.abstained is not None
    assert abstained.abstained.item()
    heaviest = WeightedVote([0.2, 0.1, 0.1, 0.2, 0.1], tie="heaviest_voter").fuse(outputs).values
    assert heaviest.argmax().item() == 0
    heaviest = WeightedVote([0.1, 0.05, 0.1, 0.25, 0.2], tie="heaviest_voter").fuse(outputs).values
    assert heaviest.tolist()[0] == pytest.approx([0, 6 / 7, 1 / 7])


def test_a_tenth_and_two_tenths_tie_with_three_tenths() -> None:
    outputs = rows([1.0, 0.0], [1.0, 0.0], [0.0, 1.0])
    fused = WeightedVote([0.1, 0.2, 0.3], tie="abstain").fuse(outputs)
    assert fused.abstained is not None
    assert fused.abstained.item()


def test_threshold_accepts_each_class_by_its_own() -> None:
    outputs = rows([0.9, 0.4, 0.1], [0.7, 0.2, 0.3])
    assert Threshold(2, threshold=[0.75, 0.25, 0.5]).fuse(outputs).values.tolist() == [[1, 1, 0]]
    assert Threshold(2, threshold=0.35, at_least=1).fuse(outputs).values.tolist() == [[1, 1, 0]]
    assert Threshold(2, threshold=0.35, at_least=2).fuse(outputs).values.tolist() == [[1, 0, 0]]
    rejected = Threshold(2, threshold=0.95, reject=True).fuse(outputs)
    assert rejected.abstained is not None
    assert rejected.abstained.item()
    with pytest.raises(QuorumError, match="at_least"):
        Threshold(2, at_least=2).fuse(outputs, torch.tensor([[True], [False]]))
    with pytest.raises(RuleOptionError, match="one per class"):
        Threshold(2, threshold=[0.1, 0.2]).fuse(outputs)


def test_evidence_becomes_posterior_weights() -> None:
    """Bayes' rule over two members: odds 2 from the prior, e from the data."""
    fused = BayesianModelAveraging([-5000.0, -5001.0], [2.0, 1.0]).fuse(rows([1.0, 0.0], [0.0, 1.0]))
    assert fused.values[0, 0].item() == pytest.approx(2 * math.e / (2 * math.e + 1))


def test_inverse_variance_is_the_best_linear_unbiased_estimate() -> None:
    fused = InverseVariance(2).fuse(rows([1.0, 4.0], [4.0, 2.0]))
    assert fused.values.tolist() == [pytest.approx([3.0, 4 / 3])]
    assert fused.contributions.flatten().tolist() == pytest.approx([1 / 3, 2 / 3])


def test_variance_of_zero_or_less_is_an_absent_row() -> None:
    fused = InverseVariance(3).fuse(rows([1.0, 4.0], [4.0, 0.0], [9.0, -1.0]))
    assert fused.values.tolist() == [pytest.approx([1.0, 4.0])]
    with pytest.raises(QuorumError):
        InverseVariance(1).fuse(rows([1.0, 0.0]))


def test_mixture_moments_are_those_of_a_sample_from_the_mixture() -> None:
    means, deviations, weights = [1000.0, 1003.0], [1.0, 0.5], [0.25, 0.75]
    outputs = torch.tensor([[[mean, deviation**2]] for mean, deviation in zip(means, deviations, strict=True)])
    random = np.random.default_rng(0)
    which = random.choice(2, size=400_000, p=weights)
    sample = random.normal(np.take(means, which), np.take(deviations, which))
    fused = MixtureMoments(2, weights).fuse(outputs).values[0].tolist()
    assert fused == [pytest.approx(sample.mean(), rel=1e-4), pytest.approx(sample.var(), rel=1e-2)]


def test_quantiles_that_cross_are_sorted_before_they_are_averaged() -> None:
    fused = QuantileAverage(2).fuse(rows([3.0, 1.0, 2.0], [1.0, 5.0, 9.0]))
    assert fused.values.tolist() == [[1.0, 3.5, 6.0]]
    middle = QuantileMedian(3).fuse(rows([3.0, 1.0, 2.0], [1.0, 5.0, 9.0], [0.0, 4.0, 5.0]))
    assert middle.values.tolist() == [[1.0, 4.0, 5.0]]


def test_ten_thousand_members_still_sum_to_one() -> None:
    outputs = torch.randn(10_000, 2, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    for rule in (Mean(10_000), GeometricMean(10_000), Product(10_000), MajorityVote(10_000), Median(10_000)):
        torch.testing.assert_close(rule.fuse(outputs).values.sum(-1), torch.ones(2), rtol=0, atol=3e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: WeightedMean([0.0, 0.0]),
        lambda: WeightedMean([1.0, float("nan")]),
        lambda: WeightedMean([1.0, -1.0]),
        lambda: WeightedMean([]),
        lambda: GeometricMean(2, floor=0),
        lambda: TrimmedMean(2, proportion=0.5),
        lambda: MajorityVote(2, tie="heaviest_voter"),
        lambda: Threshold(2, at_least=3),
        lambda: ReciprocalRank(2, k=-1),
        lambda: DempsterShafer(2, [1.0, 1.5]),
        lambda: BayesianModelAveraging([0.0, float("inf")]),
    ],
)
def test_option_out_of_range_is_refused(make: object) -> None:
    with pytest.raises(RuleOptionError):
        make()  # type: ignore[operator]
