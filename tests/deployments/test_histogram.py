"""Our histograms say what prometheus_client's say."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Theirs

from quorate.deployments.histogram import Histogram

BOUNDS = (0.5, 1, 2.5)


def samples(registry):
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if not line.startswith("#") and "_created" not in line)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40).map(lambda n: n / 8))))
def test_same_observations_give_the_same_text(observations):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one, other = Histogram("h", "", ["who"], BOUNDS), Theirs("h", "", ["who"], buckets=BOUNDS, registry=theirs)
    ours.register(one)
    for who, value in observations:
        one.labels(who).observe(value)
        other.labels(who).observe(value)
    assert samples(ours) == samples(theirs)
