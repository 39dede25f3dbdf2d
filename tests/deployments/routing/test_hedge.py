"""When a second replica is asked as well."""

import numpy as np
import pytest

from quorate.deployments.routing.hedge import HEDGE_BUDGET, HEDGE_WINDOW, MIN_LATENCIES, Hedge


def hedge(percentile, latencies_s):
    policy = Hedge()
    policy.percentile = percentile
    for latency_s in latencies_s:
        policy.answered(latency_s)
    return policy


def test_a_call_is_late_at_the_percentile_of_recent_ones():
    latencies_s = np.random.default_rng(0).random(HEDGE_WINDOW)
    assert hedge(95, latencies_s).delay_s(replicas=2) == pytest.approx(np.percentile(latencies_s, 95))


def test_only_recent_calls_count():
    assert hedge(50, [9.0] * 1000 + [1.0] * HEDGE_WINDOW).delay_s(replicas=2) == 1.0


@pytest.mark.parametrize(
    ("percentile", "calls", "replicas"), [(None, 100, 2), (95, MIN_LATENCIES - 1, 2), (95, 100, 1)]
)
def test_nothing_is_hedged_when_it_is_off_or_too_little_is_known_or_there_is_one_replica(percentile, calls, replicas):
    assert hedge(percentile, [1.0] * calls).delay_s(replicas) is None


def test_hedges_stay_within_their_share_of_all_calls():
    policy = Hedge()
    allowed = 0
    for _ in range(1000):
        policy.calls += 1
        allowed += policy.allow()
        assert policy.hedges <= HEDGE_BUDGET * policy.calls
    assert allowed == policy.hedges == HEDGE_BUDGET * 1000
