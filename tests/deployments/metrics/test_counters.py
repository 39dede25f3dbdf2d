"""Our counters and histograms say what prometheus_client's say."""

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from quorate.deployments.metrics.counters import Counter, Histogram

BOUNDS = (0.5, 1, 2.5)
OBSERVATIONS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40).map(lambda n: n / 8)))


def samples(registry):
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if not line.startswith("#") and "_created" not in line)


@given(OBSERVATIONS)
def test_same_observations_give_the_same_text(observations):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = Histogram("h", "", ["who"], BOUNDS)
    other = prometheus_client.Histogram("h", "", ["who"], buckets=BOUNDS, registry=theirs)
    ours.register(one)
    for who, value in observations:
        one.labels(who).observe(value)
        other.labels(who).observe(value)
    assert samples(ours) == samples(theirs)


@given(OBSERVATIONS)
def test_same_counts_give_the_same_text(observations):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one, other = Counter("c", "", ["who"]), prometheus_client.Counter("c", "", ["who"], registry=theirs)
    ours.register(one)
    for who, value in observations:
        one.labels(who).value += int(value)
        other.labels(who).inc(int(value))
    assert samples(ours) == samples(theirs)
