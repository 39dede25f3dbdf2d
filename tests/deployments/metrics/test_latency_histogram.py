"""Latencies in bins of 2 %."""

import math

import numpy as np
import pytest

from quorate.deployments.metrics.latency_histogram import LatencyHistogram


def test_the_median_is_told_within_one_percent():
    latencies_s = np.random.default_rng(0).lognormal(-5, 1, 1001)
    assert LatencyHistogram.of(latencies_s).median_s() == pytest.approx(np.median(latencies_s), rel=0.011)


def test_counts_up_to_the_end_of_each_bin_are_exact():
    latencies_s = np.random.default_rng(1).lognormal(-5, 1, 500)
    ends, counts = LatencyHistogram.of(latencies_s).up_to()
    assert counts.tolist() == [(latencies_s <= end).sum() for end in ends]
    assert counts[-1] == 500


def test_those_of_several_replicas_are_added_up():
    parts = np.random.default_rng(2).lognormal(-5, 1, (2, 100))
    both = LatencyHistogram.of(parts[0]) + LatencyHistogram.of(parts[1])
    assert both.counts == LatencyHistogram.of(parts.ravel()).counts
    assert len(both) == 200


def test_no_latency_at_all_has_no_median_and_one_of_zero_is_counted():
    assert math.isnan(LatencyHistogram().median_s())
    assert len(LatencyHistogram.of([0.0])) == 1
