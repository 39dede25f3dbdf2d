"""Tests that are looked at again and again are wrong no more often than they promise."""

# R runs, L looks

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from quorate.deployments.metrics.latency_histogram import LatencyHistogram
from quorate.deployments.rollout.confidence_sequence import (
    MeanBet,
    is_more_often,
    log_evidence,
    mean_within,
    median_at_least_s,
    median_at_most_s,
)

ALPHA, RUNS, LOOKS = 0.05, 2000, 1200


def looks(probability, most, per_look=2.0, seed=0):
    """(R, L) successes and trials so far, while trials succeed with this probability."""
    rng = np.random.default_rng(seed)
    trials = rng.poisson(per_look, (RUNS, LOOKS))
    return rng.binomial(trials, probability).cumsum(axis=1), trials.cumsum(axis=1)


@pytest.mark.parametrize(("successes", "trials", "most"), [(0, 0, 0.1), (3, 5, 0.1), (1, 40, 0.1), (30, 50, 0.5)])
def test_evidence_is_the_likelihood_ratio_averaged_over_the_alternatives(successes, trials, most):
    def ratio(p):
        return (p / most) ** successes * ((1 - p) / (1 - most)) ** (trials - successes)

    mixed = integrate.quad(ratio, most, 1)[0] / (1 - most)
    assert math.exp(log_evidence(successes, trials, most)) == pytest.approx(mixed, rel=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("most", [0.05, 0.5])
def test_a_true_hypothesis_is_rejected_at_any_of_1200_looks_in_no_more_than_alpha_of_all_runs(most):
    successes, trials = looks(most, most)
    rejected = (log_evidence(successes, trials, most) >= -math.log(ALPHA)).any(axis=1)
    assert rejected.mean() <= ALPHA
    # What it replaces, a test at a fixed level at every look, would have stopped most of them.
    assert (stats.binom.sf(successes - 1, trials, most) < ALPHA).any(axis=1).mean() > 5 * ALPHA


@pytest.mark.long
def test_a_probability_below_the_hypothesis_is_rejected_still_less_often():
    successes, trials = looks(0.08, 0.1)
    assert (log_evidence(successes, trials, 0.1) >= -math.log(ALPHA)).any(axis=1).mean() < ALPHA / 3


def test_a_real_difference_is_found_in_nearly_all_runs_and_early():
    successes, trials = looks(0.2, 0.1)
    rejected = log_evidence(successes, trials, 0.1) >= -math.log(ALPHA)
    assert rejected.any(axis=1).mean() > 0.999
    assert np.median(rejected.argmax(axis=1)) < LOOKS / 8


def test_evidence_over_many_trials_stays_a_number():
    assert is_more_often(600_000, 1_000_000, 0.5, 1e-6)
    assert not is_more_often(400_000, 1_000_000, 0.5, 0.5)
    assert not is_more_often(0, 0, 0.1, 0.5)


@pytest.mark.long
def test_the_median_leaves_its_bounds_at_any_look_in_no_more_than_alpha_of_all_runs():
    rng = np.random.default_rng(3)
    above = below = 0
    for _ in range(40):
        latencies, outside = LatencyHistogram(), [False, False]
        for _ in range(300):
            for seconds in rng.lognormal(math.log(0.01), 0.5, 4):
                latencies.add(seconds)
            outside[0] |= median_at_most_s(latencies, ALPHA) < 0.01
            outside[1] |= median_at_least_s(latencies, ALPHA) > 0.01
        below, above = below + outside[0], above + outside[1]
        assert 0.0085 < median_at_least_s(latencies, ALPHA) < median_at_most_s(latencies, ALPHA) < 0.0115
    assert max(above, below) <= 40 * 2 * ALPHA  # of so few runs


def test_nothing_is_known_of_the_median_of_a_few_latencies():
    few = LatencyHistogram.of([0.01, 0.02])
    assert median_at_most_s(few, ALPHA) == math.inf
    assert median_at_least_s(few, ALPHA) == 0.0
    assert median_at_most_s(LatencyHistogram(), ALPHA) == math.inf


def test_a_bet_on_a_mean_gains_nothing_on_average_while_the_mean_is_what_it_says():
    gains = [
        math.exp(MeanBet().add(values, np.full(9, -1.0))[-1]) for values in itertools.product([-1.0, 1.0], repeat=9)
    ]
    assert np.mean(gains) == pytest.approx(1.0)


def test_a_bet_on_a_mean_is_won_when_it_is_higher_also_when_it_was_not_at_first():
    random = np.random.default_rng(0)
    values = np.concatenate([random.uniform(-1, 0.9, 2000), random.uniform(-1, 1.6, 400)])
    evidence = MeanBet().add(values, np.full(2400, -1.0))
    assert evidence[:2000].max() < math.log(20) < evidence[2399]
    few = MeanBet(0.5).add(values, np.full(2400, -1.0))
    assert few.max() < math.log(20)


@pytest.mark.parametrize("trials", [20, 1000, 50_000])
def test_a_mean_is_as_far_off_as_the_mixture_of_bets_on_it_allows(trials):
    within = mean_within(1.0, trials, ALPHA)
    twice = -2 * math.log(ALPHA)
    spread = math.sqrt((twice + math.log(twice + 1)) / 1000)

    def bet(size):  # what a bet of this size on normal draws has gained, by how often it is made
        return math.exp(size * trials * within - trials * size**2 / 2) * stats.norm.pdf(size, scale=spread)

    gained = integrate.quad(bet, -8 * spread, 8 * spread, points=[within / 2, within], limit=500)[0]
    assert gained == pytest.approx(1 / ALPHA, rel=1e-5)


def test_a_mean_of_skewed_draws_is_within_at_all_looks_in_all_but_alpha_of_the_runs():
    draws = np.random.default_rng(4).exponential(size=(600, 3000))
    counts = np.arange(1, 3001)
    means = draws.cumsum(axis=1) / counts
    deviations = np.sqrt(np.maximum((draws**2).cumsum(axis=1) / counts - means**2, 0))
    looks = range(60, 3000, 20)
    left = [abs(means[:, at] - 1) > deviations[:, at] * mean_within(1.0, at + 1, ALPHA) for at in looks]
    assert np.any(left, axis=0).mean() <= ALPHA


def test_of_one_draw_a_mean_is_not_known():
    assert mean_within(0.0, 1, ALPHA) == math.inf
