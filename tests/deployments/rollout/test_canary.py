"""A canary is compared with what answered before, and a revision with the answers that were expected of it."""

from pathlib import Path

import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import CanaryError
from quorate.deployments.metrics.latency_histogram import LatencyHistogram
from quorate.deployments.records.kept_files import KeptFiles
from quorate.deployments.records.registry import Publication
from quorate.deployments.rollout import canary
from quorate.deployments.rollout.canary import compare, verify, watch
from quorate.deployments.rollout.rollout import Candidate, Share

SPEC = parse_spec(
    {
        "name": "watched",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {"a": {"model": "torch.nn:Identity", "inputs": ["x"]}},
        "fusion": {"rule": "mean"},
    }
)
EXPECTED = np.array([[0.25, 0.75], [0.5, 0.5]])
FAILURE = RuntimeError("quorate.deployments.errors.DeadlineError: too late")


class Answering:
    """One fusion replica: what it answers to each call of a method, the last of it again and again."""

    def __init__(self, **replies):
        self._replies = replies

    def call(self, method, *arguments, timeout_s):
        replies = self._replies.get(method, [None])
        return [replies.pop(0) if len(replies) > 1 else replies[0]]

    def count(self):
        return 1


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(canary, "_POLL_S", 0.0)


def candidate(**replies):
    found = Publication(SPEC, Path("/"), KeptFiles(Path("watched")), {"a": "watched.a.12345678"})
    return Candidate(found, Answering(**replies), Path("/"))


def test_the_largest_difference_is_told_when_it_is_small_enough():
    served = EXPECTED + np.array([[0.0, 0.001], [-0.002, 0.0]])
    assert verify(candidate(probe=[{"one": served}]), {}, {"one": EXPECTED}, 0.01) == pytest.approx(0.002)


def test_each_of_several_outputs_must_answer_as_the_run_did():
    served = {"one": EXPECTED, "two": EXPECTED + 0.001}
    assert verify(candidate(probe=[served]), {}, dict.fromkeys(served, EXPECTED), 0.01) == pytest.approx(0.001)
    with pytest.raises(CanaryError, match=r"its answers of two differ from the run's by 0\.001"):
        verify(candidate(probe=[served]), {}, dict.fromkeys(served, EXPECTED), 0.0001)


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (EXPECTED + np.array([[0.0, 0.0], [0.0, 0.2]]), "differ from the run's by 0.2, most in row 1 of the probe set"),
        (EXPECTED * np.nan, "differ from the run's by nan"),
        (EXPECTED[:, :1], r"answers of one have shape \[2, 1\], the run's \[2, 2\]"),
    ],
)
def test_answers_that_are_not_what_was_expected_stop_a_revision(served, message):
    with pytest.raises(CanaryError, match=message):
        verify(candidate(probe=[{"one": served}]), {}, {"one": EXPECTED}, 0.01)


def test_a_first_call_that_is_late_is_tried_again():
    assert verify(candidate(probe=[FAILURE, FAILURE, {"one": EXPECTED}]), {}, {"one": EXPECTED}, 0.01) == 0
    with pytest.raises(CanaryError, match="does not answer the probe set: too late"):
        verify(candidate(probe=[FAILURE]), {}, {"one": EXPECTED}, 0.01)


def seen(answers, errors=0):
    return {
        "answers": answers,
        "degraded": 0,
        "errors": errors,
        "latencies": dict(LatencyHistogram.of([0.001] * answers).counts),
    }


def watching(new):
    return candidate(outcomes=[{"live": seen(1000), SPEC.revision: new}])


def test_a_canary_that_does_as_well_is_reported():
    report = watch(watching(seen(100)), "live", 0.1, seconds=0.0)
    assert (report.answers, report.error_rates) == (100, (0.0, 0.0))
    assert report.median_s == pytest.approx((0.001, 0.001), rel=0.01)


def test_a_canary_that_errs_is_stopped_while_it_is_watched():
    with pytest.raises(CanaryError, match="the canary had 50 errors in 100 requests"):
        watch(watching(seen(50, errors=50)), "live", 0.1, seconds=60.0)


def test_a_canary_that_hardly_anyone_asked_proves_nothing():
    with pytest.raises(CanaryError, match="the canary had 3 requests in 0 s; give it longer"):
        watch(watching(seen(3)), "live", 0.1, seconds=0.0)


def test_a_canary_whose_replicas_are_gone_is_over():
    with pytest.raises(CanaryError, match="were replaced during the canary"):
        watch(candidate(outcomes=[{"live": seen(1000)}]), "live", 0.1, seconds=0.0)


def test_a_canary_beside_another_live_revision_than_it_was_meant_for_is_over():
    watched = watching(seen(1000))
    with pytest.raises(CanaryError, match="the live revision was no more other, which it was to be compared with"):
        watch(watched, "other", 0.1, seconds=0.0)


def share(answers, errors=0, degraded=0, latency_s=0.002):
    return Share(answers, degraded, errors, LatencyHistogram.of(latency_s * np.linspace(0.5, 1.5, answers)))


def test_canary_that_errs_more_than_chance_explains_is_stopped():
    compare("new", share(1000, errors=20), share(100, errors=2), 0.1)
    with pytest.raises(CanaryError, match="the canary had 12 errors in 112 requests, the old one 20 in 1020"):
        compare("new", share(1000, errors=20), share(100, errors=12), 0.1)


def test_canary_that_answers_with_fewer_members_is_stopped():
    with pytest.raises(CanaryError, match="60 degraded answers in 100 requests"):
        compare("new", share(1000, degraded=10), share(100, degraded=60), 0.1)


def test_canary_that_is_slower_by_more_than_chance_and_a_fifth_is_stopped():
    compare("new", share(1000), share(100, latency_s=0.0021), 0.1)
    compare("new", share(100_000), share(10_000, latency_s=0.0023), 0.1)
    with pytest.raises(CanaryError, match="median latency"):
        compare("new", share(1000), share(100, latency_s=0.004), 0.1)


LOOKS, REQUESTS = 1200, 20  # of ten minutes, and between two looks


def test_canary_that_is_slower_by_less_than_half_a_millisecond_goes_on():
    compare("new", share(100_000, latency_s=0.0005), share(10_000, latency_s=0.0007), 0.1)
    with pytest.raises(CanaryError, match=r"median latency was 1\.2 ms, the old one's 0\.5 ms"):
        compare("new", share(100_000, latency_s=0.0005), share(10_000, latency_s=0.0012), 0.1)


def history(seed, errors=(0.02, 0.02), slower=1.0, canary=0.1):
    """Both revisions at each look."""
    rng = np.random.default_rng(seed)
    bad, latencies = [0, 0], [LatencyHistogram(), LatencyHistogram()]
    for _ in range(LOOKS):
        for is_canary in (rng.random(REQUESTS) < canary).tolist():
            if rng.random() < errors[is_canary]:
                bad[is_canary] += 1
            else:
                latencies[is_canary].add(rng.lognormal(np.log(0.01 * (slower if is_canary else 1.0)), 0.5))
        yield [Share(len(found), 0, count, found) for count, found in zip(bad, latencies, strict=True)]


def stopped_at(seed, **truth):
    """The look at which the canary is stopped; None for never."""
    for look, (old, new) in enumerate(history(seed, **truth)):
        try:
            compare("new", old, new, 0.1)
        except CanaryError:
            return look
    return None


@pytest.mark.long
def test_canary_that_does_as_well_is_not_stopped_in_ten_minutes():
    assert [stopped_at(seed) for seed in range(8)] == [None] * 8


@pytest.mark.long
@pytest.mark.parametrize("truth", [{"errors": (0.02, 0.06)}, {"slower": 1.5}])
def test_canary_that_does_worse_is_stopped_long_before_they_are_over(truth):
    found = [stopped_at(seed, **truth) for seed in range(4)]
    assert all(look is not None and look < LOOKS / 2 for look in found)
