import numpy as np
import pytest
import scipy.stats

from quorate.tuning.evaluation.bayesian_bootstrap import bounds, drawn_means, exactly_above, group_numbers

pytestmark = pytest.mark.long


def test_draws_of_a_mean_spread_as_scipys_bootstrap_of_it_does():
    rows = np.random.default_rng(0).exponential(size=(400, 1))
    draws = drawn_means(rows)[:, 0]
    theirs = scipy.stats.bootstrap((rows[:, 0],), np.mean, n_resamples=4000, method="percentile", rng=1)
    assert draws.std() == pytest.approx(theirs.standard_error, rel=0.06)
    np.testing.assert_allclose(np.quantile(draws, [0.025, 0.975]), theirs.confidence_interval, rtol=0.03)


def test_a_row_that_counts_twice_is_the_row_given_twice_in_a_group():
    rows, groups = np.array([[1.0], [2.0], [5.0]]), np.arange(3)
    twice = np.array([0, 1, 2, 2])
    assert np.array_equal(drawn_means(rows, groups, np.array([1.0, 1.0, 2.0])), drawn_means(rows[twice], groups[twice]))


def test_many_rows_are_drawn_in_blocks_and_spread_as_if_they_were_not():
    rows = np.random.default_rng(0).normal(size=(50_000, 1))
    draws = drawn_means(rows)[:, 0]
    assert draws.std() == pytest.approx(rows.std() / np.sqrt(len(rows)), rel=0.06)
    assert draws.mean() == pytest.approx(rows.mean(), abs=2e-4)


def test_groups_are_numbered_whatever_they_are_called():
    assert group_numbers(None, 3).tolist() == [0, 1, 2]
    assert group_numbers(np.array(["b", "a", "b"]), 3).tolist() == [1, 0, 1]


@pytest.mark.parametrize(("rows", "one_sided"), [(20, False), (20, True), (200, False)])
def test_bounds_hold_for_all_quantities_at_once(rows, one_sided):
    random, covered = np.random.default_rng(0), 0
    for trial in range(200):
        shared = random.normal(size=(rows, 1))
        numbers = 0.5 * shared + random.normal(size=(rows, 8))  # eight quantities whose means are 0
        low, high = bounds(
            drawn_means(numbers, draws=2000, seed=trial), numbers.mean(axis=0), rows, one_sided=one_sided
        )
        covered += bool((low <= 0).all() and (high >= 0).all())
    assert covered >= 0.91 * 200  # 95 % but for chance


def test_the_exact_test_is_scipys_sign_flip_test():
    gains = np.random.default_rng(0).normal(0.35, 1, size=(30, 1))
    theirs = scipy.stats.permutation_test(
        (gains[:, 0],), np.mean, permutation_type="samples", alternative="greater", n_resamples=20_000, rng=0
    ).pvalue
    assert exactly_above(gains, 1 - 1.2 * theirs)[0]
    assert not exactly_above(gains, 1 - 0.8 * theirs)[0]


def test_the_exact_test_pays_for_every_quantity_that_is_looked_at():
    random = np.random.default_rng(0)
    claimed = sum(bool(exactly_above(random.normal(size=(20, 10)), seed=trial).any()) for trial in range(200))
    assert claimed <= 0.09 * 200  # 5 % but for chance; each alone it would be some 40 %
