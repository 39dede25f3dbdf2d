"""What is counted of requests that have ended: for Prometheus, and for whoever compares revisions."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from quorate.deployments.engine.requests.request import Request
from quorate.deployments.engine.revision_set import RevisionSet
from quorate.deployments.engine.several_outputs import Answers
from quorate.deployments.engine.thinning import QUEUED_SHARE, Thinning
from quorate.deployments.metrics.outcomes import outcome_of
from quorate.deployments.metrics.prometheus import Metrics
from quorate.fusion.errors import QuorateError

# Of errors those that fewer requests would not have had.
_FOR_WANT_OF_TIME = ("deadline", "overloaded")


class Accounts:
    """Of one engine."""

    def __init__(self, metrics: Metrics, revisions: RevisionSet):
        self._metrics, self._revisions = metrics, revisions

    def ended(self, request: Request, answer: Any, error: BaseException | None) -> None:
        """Count what became of a request."""
        seconds = time.monotonic() - (request.deadline - request.allowed_s)
        if request.served.thinning is not None and request.members is None:
            _weigh(request.served.thinning, request, answer, error)
        if error is not None:
            outcome = _outcome(error)
            self._count(outcome, request, seconds)
            for output in request.outputs:
                self._metrics.output_answered(output, outcome)
            return
        self._count("degraded" if answer.degraded else "full", request, seconds, answer.members_missing.values())
        if request.outputs:
            self._count_outputs(answer)
        self._metrics.total(seconds, "" if request.trace is None else request.trace.kept_as)

    def _count(self, outcome: str, request: Request, seconds: float, missing: Collection[str] = ()) -> None:
        self._metrics.answered(outcome, missing)
        if request.members is None:  # others are not drawn for the canary, so they are not compared either
            self._revisions.count(request.served, outcome, seconds)

    def _count_outputs(self, found: Answers) -> None:
        for name, answer in found.answers.items():
            outcome = "degraded" if answer.degraded else "full"
            self._metrics.output_answered(name, outcome, answer.members_missing.values())
        for name, error in found.errors.items():
            self._metrics.output_answered(name, _outcome(error))


def _weigh(thinning: Thinning, request: Request, answer: Any, error: BaseException | None) -> None:
    """Have it seen whether there is too much to do."""
    if error is not None:
        thinning.ended({}, _outcome(error) in _FOR_WANT_OF_TIME)
    else:
        thinning.ended(answer.members_missing, answer.queued_s > QUEUED_SHARE * request.allowed_s)


def _outcome(error: BaseException) -> str:
    return outcome_of(error) if isinstance(error, QuorateError) else "error"
