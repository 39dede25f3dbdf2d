"""A new revision goes live on all fusion replicas or on none: prepare, rehearse, check, record, commit.

No request is answered by a mix: until the last step the old revision answers, and a failure before it changes nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quorate.deployments import errors
from quorate.deployments.errors import DeployError
from quorate.deployments.metrics.latency_histogram import LatencyHistogram
from quorate.deployments.records.registry import Publication
from quorate.deployments.rows.example import example_rows
from quorate.deployments.spec.model_files.example_content import can_be_made, content_of
from quorate.fusion.errors import QuorateError

CONTROL_TIMEOUT_S = 30.0
_RETRY_S = 0.5
# Of so many fusion replicas one may be missing from a rollout; others are waited for at least so long.
_STRAGGLERS, _PATIENCE_S = 20, 5.0
# Serve's own traces never reach a user; our errors in them do, by this shape.
_OWN_ERROR = re.compile(r"quorate\.\w+\.errors\.\w+: (.+)")
_SENT_ERROR = re.compile(r"quorate\.\w+\.errors\.SentError: (\[.+\])")
# Of an actor that did not start Serve shows no more than the name of Ray's error, and what pickle keeps of it.
_OF_RAY = {
    "ActorDiedError": "its process ended as it started; see Ray's logs for a crash, or for too little memory",
    "ActorUnavailableError": "its process could not be reached as it started; try again",
}

Array = NDArray[Any]


class FusionReplicas(Protocol):
    """All fusion replicas of an ensemble; ``replicas.Replicas`` on a cluster."""

    def call(self, method: str, *arguments: Any, timeout_s: float) -> list[Any]: ...

    def count(self) -> int: ...


@dataclass(frozen=True)
class Share:
    """How the requests of one revision went since a canary began, over all fusion replicas.

    Attributes:
        errors: requests without an answer that were not the client's fault.
        latencies: of the answers.
    """

    answers: int
    degraded: int
    errors: int
    latencies: LatencyHistogram


class Candidate:
    """A revision that all fusion replicas prepare and none uses yet: it can be asked, and given some requests."""

    def __init__(self, publication: Publication, replicas: FusionReplicas, place: Path):
        """Args:
        place: the folder of the ensemble's own files here, for what it is tried on.
        """
        self.spec, self.revision, self.publication = publication.spec, publication.spec.revision, publication
        self.place = place
        self._replicas = replicas

    def prepare(self) -> None:
        """Have every replica build it and find its members.

        Raises:
            DeployError: one could not; nothing has changed.
        """
        try:
            self._all("prepare", self.publication.to_json())
        except DeployError as error:
            self.discard()
            found = f"revision {self.revision} was not published: {error}"
            raise DeployError(f"{found}; the old one still answers") from None

    def probe(self, inputs: Mapping[str, Array]) -> list[Mapping[str, Array]]:
        """What each replica answers with it, (B, C) by output; the clients' requests go on with the live revision.

        Raises:
            DeployError: one had no answer.
        """
        replies = self._all("probe", self.revision, dict(inputs))
        # Replicas of an older Quorate, which an upgrade replaces one by one, give their first output alone.
        named = [reply if isinstance(reply, Mapping) else {self.spec.output_name: reply} for reply in replies]
        return [{output: np.asarray(values) for output, values in reply.items()} for reply in named]

    def start_canary(self, share: float) -> None:
        """Give it a share of the clients' requests, 0 to 1."""
        self._all("start_canary", self.revision, share)

    def outcomes(self) -> dict[str, Share]:
        """How requests went with the live revision and with this one, by revision."""
        replies = self._all("outcomes")
        names = {name for reply in replies for name in reply}
        return {name: _sum([reply[name] for reply in replies if name in reply]) for name in names}

    def adopt(self) -> None:
        """Have every replica do now what the registry says; one that does not hear this does it by itself soon."""
        self._replicas.call("adopt", timeout_s=CONTROL_TIMEOUT_S)

    def discard(self) -> None:
        """Forget it; a replica that does not hear this forgets it with the next."""
        self._replicas.call("discard", self.revision, timeout_s=CONTROL_TIMEOUT_S)

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        """What all replicas that Serve knows of answer; one that has just died is waited for until Serve knows, too.

        Of many some are always starting, or late. Up to one in ``_STRAGGLERS`` is gone on without: what is recorded it
        takes up by itself, as it does after a start. Until then it answers by the old revision, and says so.
        """
        began = time.monotonic()
        while True:
            expected = self._replicas.count()
            replies = self._replicas.call(method, *arguments, timeout_s=CONTROL_TIMEOUT_S)
            answered = [reply for reply in replies if not isinstance(reply, BaseException)]
            spare = expected // _STRAGGLERS
            if refused := _refusal(replies, method == "prepare", spare):
                raise DeployError(own_message(str(refused) or f"no answer within {CONTROL_TIMEOUT_S:g} s"))
            if answered and len(answered) >= expected:
                return answered
            waited_s = time.monotonic() - began
            if answered and len(answered) >= expected - spare and waited_s > _PATIENCE_S:
                return answered
            if waited_s > CONTROL_TIMEOUT_S:
                raise DeployError(f"{len(answered)} of {max(expected, 1)} fusion replicas answered")
            time.sleep(_RETRY_S)


Check = Callable[[Candidate], None]


def roll_out(candidate: Candidate, record: Callable[[], None], check: Check | None = None) -> None:
    """Make a candidate the live revision of all replicas, or leave everything as it is. Hold the ensemble's lease.

    Args:
        record: writes into the registry that it is live; what it raises keeps the old one.
        check: looks at the revision before it goes live; what it raises keeps the old one.

    Raises:
        DeployError: a replica refused it, or it does not answer.
    """
    candidate.prepare()
    try:
        rehearse(candidate)
        if check is not None:
            check(candidate)
        record()
    except BaseException:
        candidate.discard()
        raise
    candidate.adopt()


def rehearse(candidate: Candidate) -> None:
    """Answer an example once: what members give each other and the rules could not be tried when they were loaded.

    Nothing is tried where only a loaded model knows what its texts may be.

    Raises:
        DeployError: a member fails on them, or gives what its readers or the rule cannot use.
    """
    spec = candidate.spec
    if not can_be_made(spec):
        return
    try:
        content = content_of(spec.members.values())
        candidate.probe(example_rows(spec.inputs, 1, candidate.place, spec.lengths, content))
    except DeployError as error:
        mistakes = (":error", ":shape", "could not be fused", "could not be sent")
        if any(words in str(error) for words in mistakes):  # others, a late member say, are no mistake of the spec
            fix = "correct what it reads or its config, and deploy again (quorate status shows its last error)"
            raise DeployError(f"{spec.name} does not answer an example: {error}; {fix}") from None


def _refusal(replies: list[Any], building: bool, spare: int) -> BaseException | None:
    """The exception that ends a rollout; None where there is none, or no more than may be spared.

    Args:
        building: a replica that cannot build a revision is never spared; one that never heard of it may be.
    """
    failed = [reply for reply in replies if isinstance(reply, BaseException)]
    refused = [error for error in failed if building and not isinstance(error, TimeoutError)]
    return refused[0] if refused else failed[0] if len(failed) > spare else None


def _sum(parts: list[dict[str, Any]]) -> Share:
    latencies = sum((LatencyHistogram(part["latencies"]) for part in parts), LatencyHistogram())
    answers, degraded, errors = (sum(part[key] for part in parts) for key in ("answers", "degraded", "errors"))
    return Share(answers, degraded, errors, latencies)


def sent_error(trace: str) -> QuorateError | None:
    """The error that a replica sent through Serve; None where a trace holds no such error."""
    for text in _SENT_ERROR.findall(trace):
        kind, *arguments = json.loads(text)
        known = getattr(errors, kind, None)
        sent: QuorateError = known(*arguments) if known is not None else DeployError(": ".join(map(str, arguments)))
        return sent
    return None


def is_own(trace: str) -> bool:
    """Whether a remote trace is of an error that our own code raised."""
    return bool(_OWN_ERROR.search(trace))


def own_message(trace: str) -> str:
    """The sentence of our own error inside a remote trace, or the trace's last line."""
    sent = sent_error(trace)
    if sent is not None:
        return str(sent)
    found = _OWN_ERROR.findall(trace)
    if found:
        return str(found[-1]).strip()
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason given; see Ray's logs"
    return _OF_RAY.get(last.partition("(")[0], last)
