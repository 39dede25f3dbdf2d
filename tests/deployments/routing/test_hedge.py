"""When a second replica is asked as well."""

import numpy as np
import pytest

from quorate.deployments.routing.hedge import HEDGE_BUDGET, HEDGE_WINDOW, MIN_LATENCIES, REFRESH_ANSWERS, Hedge


def hedge(latencies_s):
    policy = Hedge()
    for latency_s in latencies_s:
        policy.answered(latency_s)
    return policy


def test_a_call_is_late_at_the_percentile_of_recent_ones():
    latencies_s = np.random.default_rng(0).random(HEDGE_WINDOW)
    assert hedge(latencies_s).delay_s(95, replicas=2) == pytest.approx(np.percentile(latencies_s, 95))


def test_only_recent_calls_count():
    assert hedge([9.0] * 1000 + [1.0] * HEDGE_WINDOW).delay_s(50, replicas=2) == 1.0


def test_a_percentile_is_kept_for_a_while_and_then_computed_anew():
    policy = hedge([1.0] * HEDGE_WINDOW)
    assert policy.delay_s(95, replicas=2) == 1.0
    for _ in range(REFRESH_ANSWERS - 1):
        policy.answered(9.0)
    assert policy.delay_s(95, replicas=2) == 1.0
    policy.answered(9.0)
    assert policy.delay_s(95, replicas=2) == 9.0


def test_revisions_of_other_percentiles_share_what_is_known_of_a_member():
    policy = hedge(np.linspace(0.0, 1.0, HEDGE_WINDOW))
    found = [policy.delay_s(percentile, replicas=2) for percentile in (50, 95, 50)]
    assert found == pytest.approx([0.5, 0.95, 0.5])


@pytest.mark.parametrize(("calls", "replicas"), [(MIN_LATENCIES - 1, 2), (100, 1)])
def test_nothing_is_hedged_when_too_little_is_known_or_there_is_one_replica(calls, replicas):
    assert hedge([1.0] * calls).delay_s(95, replicas) is None


def test_hedges_stay_within_their_share_of_all_calls():
    policy = Hedge()
    allowed = 0
    for _ in range(1000):
        policy.calls += 1
        allowed += policy.allow()
        assert policy.hedges <= HEDGE_BUDGET * policy.calls
    assert allowed == policy.hedges == HEDGE_BUDGET * 1000
