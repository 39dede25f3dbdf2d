"""Whether a new revision may go live: it answers as expected, and a share of the requests goes as well as before."""

# B rows, C classes

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from quorate.deployments.control.rollout import Candidate, Share
from quorate.deployments.errors import CanaryError, DeployError

FEWEST_ANSWERS = 50
_POLL_S = 0.5
# A canary is stopped for a difference that chance makes once in so many looks; half a minute has 60 of them.
_P_VALUE = 1e-3
_SLOWER = 1.2
_FIRST_CALLS = 3


@dataclass(frozen=True)
class CanaryReport:
    """How the canary went beside the live revision.

    Attributes:
        share: of the requests that it got.
        error_rates: of the live revision and of the canary.
        median_s: latencies of both.
    """

    share: float
    seconds: float
    answers: int
    error_rates: tuple[float, float]
    median_s: tuple[float, float]


def verify(candidate: Candidate, inputs: Mapping[str, NDArray[Any]], expected: NDArray[Any], tolerance: float) -> float:
    """The largest difference between what any fusion replica answers and what it should.

    Args:
        inputs: (B, *shape) by request input.
        expected: (B, C).
        tolerance: how far an answer may be from it.

    Raises:
        CanaryError: it does not answer, or further off than ``tolerance``.
    """
    served = _answers(candidate, inputs)
    for values in served:
        if values.shape != expected.shape:
            found = f"answers have shape {list(values.shape)}, the run's {list(expected.shape)}"
            raise CanaryError(candidate.revision, found, "tune again with the members as they are")
    difference = max(float(np.abs(values - expected).max()) for values in served)
    if not difference <= tolerance:
        row = int(np.abs(served[0] - expected).max(axis=1).argmax())
        found = f"its answers differ from the run's by {difference:.3g}, most in row {row} of the probe set"
        raise CanaryError(candidate.revision, found, "tune again: members or code are not what they were")
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
        old, new = seen[live], seen[candidate.revision]
        compare(candidate.revision, old, new)
        if time.monotonic() >= until:
            break
    if new.answers < FEWEST_ANSWERS:
        found = f"the canary had {new.answers} requests in {seconds:g} s"
        raise CanaryError(candidate.revision, found, "give it longer or a larger share, or promote without a canary")
    rates, medians = (_error_rate(old), _error_rate(new)), (_median(old), _median(new))
    return CanaryReport(share, seconds, new.answers, rates, medians)


def compare(revision: str, old: Share, new: Share) -> None:
    """Raise CanaryError when a canary does worse than chance explains.

    Errors and degraded answers are compared by Fisher's exact test, latencies by the Mann-Whitney U test and, since
    with many requests a difference of no matter is significant too, by their medians.
    """
    for what, bad_old, bad_new in (
        ("errors", old.errors, new.errors),
        ("degraded answers", old.degraded, new.degraded),
    ):
        counts = [[bad_new, new.answers + new.errors - bad_new], [bad_old, old.answers + old.errors - bad_old]]
        if bad_new and stats.fisher_exact(counts, alternative="greater").pvalue < _P_VALUE:
            found = f"the canary had {bad_new} {what} in {sum(counts[0])} requests"
            beside = f"the old one {bad_old} in {sum(counts[1])}; it was stopped"
            raise CanaryError(revision, f"{found}, {beside}", "look at quorate status, and tune again")
    if min(len(old.latencies_s), len(new.latencies_s)) < FEWEST_ANSWERS:
        return
    slower = stats.mannwhitneyu(new.latencies_s, old.latencies_s, alternative="greater").pvalue < _P_VALUE
    if slower and _median(new) > _SLOWER * _median(old):
        found = f"the canary's median latency was {1e3 * _median(new):.1f} ms"
        beside = f"the old one's {1e3 * _median(old):.1f} ms; it was stopped"
        raise CanaryError(revision, f"{found}, {beside}", "choose a cheaper pick, or promote without a canary")


def _answers(candidate: Candidate, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What each replica answers. A member's first calls may be slow; the last failure counts."""
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


def _median(share: Share) -> float:
    return float(np.median(share.latencies_s)) if len(share.latencies_s) else float("nan")
