"""What a request counts as."""

import pytest

from quorate.deployments.errors import DeadlineError, OverloadedError, UnavailableError, UnsupportedError
from quorate.deployments.metrics.latency_histogram import LatencyHistogram
from quorate.deployments.metrics.outcomes import Outcomes, outcome_of
from quorate.fusion.errors import QuorumError


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OverloadedError("the queue", 1, 1.0), "overloaded"),
        (DeadlineError("2 of 3 members", "1", "a:deadline"), "deadline"),
        (QuorumError("2 of 3 members", "1", "a:dead"), "quorum"),
        (UnsupportedError("not here"), "invalid"),
        (UnavailableError("gone"), "error"),
    ],
)
def test_every_error_counts_as_one_outcome(error, outcome):
    assert outcome_of(error) == outcome


def test_answers_count_and_errors_that_are_not_the_clients():
    outcomes = Outcomes()
    for outcome in ("full", "degraded", "deadline", "quorum", "error", "invalid", "cancelled", "overloaded"):
        outcomes.add(outcome, 0.5)
    assert outcomes.to_dict() == {
        "answers": 2,
        "degraded": 1,
        "errors": 3,
        "latencies": LatencyHistogram.of([0.5, 0.5]).counts,
    }
