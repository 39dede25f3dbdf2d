"""Whether a new revision may go live: it answers as expected, and a share of the requests goes as well as before."""

# B rows, C classes

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import CanaryError, DeployError
from quorate.deployments.rollout.canary_report import CanaryReport
from quorate.deployments.rollout.confidence_sequence import is_more_often, median_at_least_s, median_at_most_s
from quorate.deployments.rollout.rollout import Candidate, Share

FEWEST_ANSWERS = 50
_POLL_S = 0.5
# A canary that does as well as the live revision is stopped with at most this probability, however long it runs and
# however often it is looked at: a third each for errors, degraded answers and latency.
ALPHA = 0.01
_SLOWER = 1.2
# What is asked seldom falls out of the processor's caches: beside two busy loops a canary that is the live revision's
# twin took 0.7 ms instead of 0.5.
_SLOWER_S = 0.0005
_FIRST_CALLS = 3


def verify(
    candidate: Candidate, inputs: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], tolerance: float
) -> float:
    """The largest difference between what any fusion replica answers and what it should.

    Args:
        inputs: (B, *shape) by request input.
        expected: (B, C) by output; others are not compared.
        tolerance: how far an answer may be from it.

    Raises:
        CanaryError: it does not answer, or further off than ``tolerance``.
    """
    served = _answers(candidate, inputs)
    return max(
        _difference(candidate.revision, output, [values[output] for values in served], right, tolerance)
        for output, right in expected.items()
    )


def _difference(
    revision: str, output: str, served: Sequence[NDArray[Any]], expected: NDArray[Any], tolerance: float
) -> float:
    for values in served:
        if values.shape != expected.shape:
            found = f"answers of {output} have shape {list(values.shape)}, the run's {list(expected.shape)}"
            raise CanaryError(revision, found, "tune again with the members as they are")
    difference = max(float(np.abs(values - expected).max()) for values in served)
    if not difference <= tolerance:
        row = int(np.abs(served[0] - expected).reshape(len(expected), -1).max(axis=1).argmax())
        found = f"its answers of {output} differ from the run's by {difference:.3g}, most in row {row} of the probe set"
        raise CanaryError(revision, found, "tune again: members or code are not what they were")
    return difference


def watch(candidate: Candidate, live: str, share: float, seconds: float) -> CanaryReport:
    """Let the candidate answer a share of the requests beside the live revision, and compare.

    Raises:
        CanaryError: it made more errors or was slower, or there were too few requests to tell.
    """
    candidate.start_canary(share)
    until = time.monotonic() + seconds
    while True:
        time.sleep(min(_POLL_S, max(until - time.monotonic(), 0.0)))
        seen = candidate.outcomes()
        if candidate.revision not in seen:
            found = "the fusion replicas that had it were replaced during the canary"
            raise CanaryError(candidate.revision, found, "promote again")
        if live not in seen:
            found = f"the live revision was no more {live}, which it was to be compared with"
            raise CanaryError(candidate.revision, found, "promote again")
        old, new = seen[live], seen[candidate.revision]
        compare(candidate.revision, old, new, share)
        if time.monotonic() >= until:
            break
    if new.answers < FEWEST_ANSWERS:
        found = f"the canary had {new.answers} requests in {seconds:g} s"
        raise CanaryError(candidate.revision, found, "give it longer or a larger share, or promote without a canary")
    rates, medians = (_error_rate(old), _error_rate(new)), (old.latencies.median_s(), new.latencies.median_s())
    return CanaryReport(share, seconds, new.answers, rates, medians)


def compare(revision: str, old: Share, new: Share, share: float) -> None:
    """Raise CanaryError when a canary does worse than chance explains, at any of all looks together.

    Whether a request goes to the canary is drawn, so while both do equally well a bad answer is the canary's with
    probability ``share``, whatever the load and the members do meanwhile. Latencies are compared by bounds of their
    medians and, since with many requests a difference of no matter is significant too, must differ by a fifth and
    half a millisecond. The answers of each revision are taken as draws: those of one batch, which fail or are late
    together, count singly.
    """
    for what, bad_old, bad_new in (
        ("errors", old.errors, new.errors),
        ("degraded answers", old.degraded, new.degraded),
    ):
        if is_more_often(bad_new, bad_new + bad_old, share, ALPHA / 3):
            found = f"the canary had {bad_new} {what} in {new.answers + new.errors} requests"
            beside = f"the old one {bad_old} in {old.answers + old.errors}; it was stopped"
            raise CanaryError(revision, f"{found}, {beside}", "look at quorate status, and tune again")
    at_most = median_at_most_s(old.latencies, ALPHA / 6)
    if median_at_least_s(new.latencies, ALPHA / 6) > max(_SLOWER * at_most, at_most + _SLOWER_S):
        found = f"the canary's median latency was {1e3 * new.latencies.median_s():.1f} ms"
        beside = f"the old one's {1e3 * old.latencies.median_s():.1f} ms; it was stopped"
        raise CanaryError(revision, f"{found}, {beside}", "choose a cheaper pick, or promote without a canary")


def _answers(candidate: Candidate, inputs: Mapping[str, NDArray[Any]]) -> list[Mapping[str, NDArray[Any]]]:
    """What each replica answers, by output. A member's first calls may be slow; the last failure counts."""
    for _ in range(_FIRST_CALLS - 1):
        try:
            return candidate.probe(inputs)
        except DeployError:
            time.sleep(_POLL_S)
    try:
        return candidate.probe(inputs)
    except DeployError as error:
        fix = "see the members' last errors in quorate status"
        raise CanaryError(candidate.revision, f"it does not answer the probe set: {error}", fix) from None


def _error_rate(share: Share) -> float:
    return share.errors / max(share.answers + share.errors, 1)
