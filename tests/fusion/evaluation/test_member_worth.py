"""Diversity, significance and Shapley values."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

from quorate.fusion.errors import FusionError, ShapeError
from quorate.fusion.evaluation.diversity import diversity
from quorate.fusion.evaluation.shapley import pool_worth, shapley_values
from quorate.fusion.evaluation.significance import mcnemar, paired_bootstrap

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])
PREDICTED = np.array(
    [
        [0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 1, 1],
        [0, 1, 2, 1, 0, 2, 0, 1, 1, 0, 2, 1],
        [0, 2, 2, 0, 1, 0, 0, 1, 2, 2, 2, 1],
    ]
)
CORRECT = PREDICTED == LABELS
# Q, correlation, disagreement, double fault: deslib.util.diversity of DESlib 0.3.7 on the table above.
DESLIB = {
    (0, 1): [0.25, 0.119522860933, 0.416666666667, 0.166666666667],
    (0, 2): [0.25, 0.119522860933, 0.416666666667, 0.166666666667],
    (1, 2): [-0.058823529412, -0.028571428571, 0.5, 0.166666666667],
}


@pytest.mark.parametrize(("pair", "expected"), DESLIB.items())
def test_pairwise_diversity_is_deslibs(pair: tuple[int, int], expected: list[float]) -> None:
    found = diversity(CORRECT)
    ours = [m[pair] for m in (found.q, found.correlation, found.disagreement, found.double_fault)]
    assert ours == pytest.approx(expected)


def test_correlation_and_kappa_are_scikit_learns() -> None:
    correct = np.random.default_rng(0).random((4, 500)) < [[0.9], [0.7], [0.5], [0.3]]
    found = diversity(correct)
    for i in range(4):
        for j in range(4):
            assert found.correlation[i, j] == pytest.approx(matthews_corrcoef(correct[i], correct[j]))
            assert found.kappa[i, j] == pytest.approx(cohen_kappa_score(correct[i], correct[j]))


def test_oracle_is_right_where_anyone_is() -> None:
    assert diversity(CORRECT).oracle == pytest.approx(11 / 12)


def test_member_that_never_errs_leaves_zero_not_nan() -> None:
    found = diversity(np.array([[True, True, True], [True, False, True]]))
    for measure in (found.q, found.correlation, found.kappa):
        assert np.isfinite(measure).all()


def test_diversity_needs_members_by_rows() -> None:
    with pytest.raises(ShapeError):
        diversity(np.ones(3, dtype=bool))


def test_mcnemar_is_the_exact_binomial_test() -> None:
    """Of 10 rows that only one of two gets right, 1 against 9: 22 of 1024 outcomes are as uneven."""
    first = np.array([True] * 9 + [False] * 1 + [True] * 50)
    second = np.array([False] * 9 + [True] * 1 + [True] * 50)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (9, 1)
    assert found.p_value == pytest.approx(22 / 1024)
    assert mcnemar(first, first).p_value == 1.0


def test_bootstrap_interval_is_the_normal_one_for_many_rows() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(1.0, 1, 4000), random.normal(0.9, 1, 4000)
    difference = first - second
    margin = 1.96 * difference.std() / np.sqrt(4000)
    found = paired_bootstrap(first, second)
    assert found.difference == pytest.approx(difference.mean())
    assert found.low == pytest.approx(difference.mean() - margin, abs=margin * 0.1)
    assert found.high == pytest.approx(difference.mean() + margin, abs=margin * 0.1)
    assert paired_bootstrap(first, second) == found
    assert paired_bootstrap(first, first).low == 0.0
    with pytest.raises(ShapeError):
        paired_bootstrap(first, second[:-1])


def test_shapley_values_of_the_glove_game() -> None:
    """One left glove, two right gloves, a pair is worth 1: 2/3, 1/6, 1/6 (a textbook game)."""

    def pairs(coalition: tuple[int, ...]) -> float:
        return float(0 in coalition and len(coalition) > 1)

    found = shapley_values(3, pairs)
    assert found.values == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert not found.standard_errors.any()


def test_sampled_shapley_values_find_the_weighted_majority() -> None:
    """20 members, member 0 alone decides: it is worth everything; with additive worth, each is worth its own."""
    dictator = shapley_values(20, lambda coalition: float(0 in coalition), num_orders=5)
    assert dictator.values.tolist() == pytest.approx([1.0] + [0.0] * 19)
    squares = shapley_values(20, lambda coalition: float(len(coalition) ** 2), num_orders=200)
    assert squares.values.sum() == pytest.approx(400)
    # Order and reverse together give every member the same share of a worth that depends on the size squared.
    assert squares.values == pytest.approx(np.full(20, 20.0))


def test_members_that_say_the_same_are_worth_the_same() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    good = (np.eye(3)[labels] * 2 + random.random((300, 3))).astype(np.float32)
    outputs = np.stack([good, good, random.random((300, 3)).astype(np.float32)])

    def accuracy(pooled: np.ndarray) -> float:
        return float((pooled.argmax(-1) == labels).mean())

    found = shapley_values(3, pool_worth(outputs, accuracy, 1 / 3, [1.0, 1.0, 1.0])).values
    assert found[0] == pytest.approx(found[1])
    assert found[0] > found[2]
    assert found.sum() == pytest.approx(accuracy(outputs.mean(0)) - 1 / 3)
    with pytest.raises(FusionError):
        pool_worth(outputs, accuracy, 1 / 3, [1.0, 0.0, 1.0])
