"""A revision that all fusion replicas have prepared and none uses yet: it can be asked, and given some requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from quorate.deployments.control.registry import Publication
from quorate.deployments.errors import DeployError

CONTROL_TIMEOUT_S = 30.0
# Serve's own traces never reach a user; our errors in them do, by this shape.
_OWN_ERROR = re.compile(r"quorate\.fusion\.errors\.\w+: (.+)")

Array = NDArray[Any]


@dataclass(frozen=True)
class Share:
    """How the requests of one revision went since a canary began, over all fusion replicas.

    Attributes:
        errors: requests without an answer that were not the client's fault.
        latencies_s: of the most recent answers, in no order.
    """

    answers: int
    degraded: int
    errors: int
    latencies_s: Array


class Candidate:
    """Speaks with all fusion replicas of an ensemble about one revision."""

    def __init__(self, publication: Publication, handle: DeploymentHandle[Any], expected: int):
        self.spec, self.revision, self._publication = publication.spec, publication.spec.revision, publication
        self._handle, self._expected = handle, expected

    def prepare(self) -> None:
        """Have every replica build it and find its members.

        Raises:
            DeployError: one could not; nothing has changed.
        """
        try:
            self._all("prepare", self._publication.words())
        except DeployError as error:
            self.discard()
            found = f"revision {self.revision} was not published: {error}"
            raise DeployError(f"{found}; the old one still answers") from None

    def probe(self, inputs: Mapping[str, Array]) -> list[Array]:
        """What each replica answers with it, (B, C); the clients' requests go on with the live revision.

        Raises:
            DeployError: one had no answer.
        """
        return [np.asarray(values) for values in self._all("probe", self.revision, dict(inputs))]

    def start_canary(self, share: float) -> None:
        """Give it a share of the clients' requests, 0 to 1."""
        self._all("start_canary", self.revision, share)

    def watched(self) -> dict[str, Share]:
        """How requests went with the live revision and with this one, by revision."""
        replies = self._all("watched")
        names = {name for reply in replies for name in reply}
        return {name: _sum([reply[name] for reply in replies if name in reply]) for name in names}

    def commit(self) -> None:
        """Use it from the next batch on; a replica that started after it was prepared takes it up by itself."""
        self._handle.broadcast("commit", self.revision).results(timeout_s=CONTROL_TIMEOUT_S, return_exceptions=True)

    def discard(self) -> None:
        """Forget it; a replica that does not hear this forgets it with the next."""
        self._handle.broadcast("discard", self.revision).results(timeout_s=CONTROL_TIMEOUT_S, return_exceptions=True)

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        calls = self._handle.broadcast(method, *arguments)
        replies = calls.results(timeout_s=CONTROL_TIMEOUT_S, return_exceptions=True)
        refused = [reply for reply in replies if isinstance(reply, BaseException)]
        if refused:
            raise DeployError(own_words(str(refused[0])))
        if len(replies) < self._expected:
            raise DeployError(f"{len(replies)} of {self._expected} fusion replicas answered")
        return list(replies)


def _sum(parts: list[dict[str, Any]]) -> Share:
    latencies = np.concatenate([np.asarray(part["latencies_s"], dtype=np.float64) for part in parts])
    answers, degraded, errors = (sum(part[key] for part in parts) for key in ("answers", "degraded", "errors"))
    return Share(answers, degraded, errors, latencies)


def own_words(message: str) -> str:
    """The sentence of our own error inside a remote trace, or the trace's last line."""
    found = _OWN_ERROR.findall(message)
    if found:
        return str(found[-1]).strip()
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given; see Ray's logs"
