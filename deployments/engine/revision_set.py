"""Revisions with the members they ask: the live one, a prepared one, a canary that gets a share of the requests."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.errors import RequestError
from quorate.deployments.metrics.outcomes import Outcomes
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.replica import Address
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import FusionSpec

# A call given up after less than this share of the ensemble's deadline says nothing about the member.
FAIR_SHARE = 0.5


@dataclass
class ServedRevision:
    """A revision and its members, connected.

    Attributes:
        apps: by member, the application that runs it.
        share: of the requests that it gets, while it is a canary.
        outcomes: of its requests, while there is a canary.
    """

    revision: Revision
    apps: Mapping[str, str]
    members: Mapping[str, Member]
    share: float = 0.0
    outcomes: Outcomes = field(default_factory=Outcomes)

    def ready(self) -> dict[str, int]:
        """How many replicas of each member take calls."""
        return {name: member.ready() for name, member in self.members.items()}


class RevisionSet:
    """Which revision answers a request, and the connections to all members that any of them asks.

    Attributes:
        live: answers every request that is not meant for another.
    """

    def __init__(
        self, spec: EnsembleSpec, folder: Path, connect: Callable[[str], Member], apps: Mapping[str, str] | None = None
    ):
        """
        Args:
            spec: the ensemble as it starts.
            folder: what its paths start from.
            connect: makes a member of this name, without replicas yet.
            apps: by member, the application that runs it; its own name where none are given.
        """
        self._wiring, self._folder, self._connect = spec.wiring, folder, connect
        self._members: dict[str, Member] = {}  # by application
        self._needed_until: dict[str, float] = {}
        self._prepared: dict[str, ServedRevision] = {}
        self._canary: ServedRevision | None = None
        self.live = self._build(spec, folder, apps or {name: name for name in spec.members})
        _set_terms(self.live)

    def set_replicas(self, app: str, addresses: Mapping[str, Address]) -> None:
        """Say where the replicas of a member's application are now."""
        if app in self._members:
            self._members[app].set_replicas(addresses)

    def reconcile(self) -> None:
        """Connect again where connections were lost, and close those to members that no revision asks any more."""
        needed = {app for served in (self.live, *self._prepared.values()) for app in served.apps.values()}
        for app, member in list(self._members.items()):
            if app in needed or time.monotonic() < self._needed_until.get(app, 0.0):
                member.reconcile()
            else:
                self._needed_until.pop(app, None)
                self._members.pop(app).close()

    def prepare(self, spec: EnsembleSpec, folder: Path | None, apps: Mapping[str, str] | None) -> ServedRevision:
        """Build a revision without using it yet; raises what makes it unusable.

        Args:
            apps: the application of each member; those of the live revision when None.
        """
        if spec.wiring != self._wiring or (apps is None and spec.members != self.live.revision.spec.members):
            raise RequestError(
                "a revision changes only the fusion; deploy the spec to change members, inputs or classes"
            )
        served = self._build(spec, folder or self._folder, self.live.apps if apps is None else apps)
        self._prepared = {served.revision.name: served}
        return served

    def knows(self, name: str) -> bool:
        """Whether a revision is live or prepared."""
        return name == self.live.revision.name or name in self._prepared

    def commit(self, name: str) -> None:
        """Use a prepared revision for every batch from now on."""
        if name == self.live.revision.name:
            self.discard(name)
        else:
            served = self._prepared.pop(name)
            self._retire(self.live)
            self.live, self._canary = served, None
            _set_terms(served)

    def discard(self, name: str) -> None:
        """Forget a prepared revision."""
        self._canary = None
        if name in self._prepared:
            self._retire(self._prepared.pop(name))

    def start_canary(self, name: str, share: float) -> None:
        """Give a prepared revision a share of the requests; those of both revisions are counted from now on."""
        served = self._prepared[name]
        served.share, served.outcomes, self.live.outcomes = share, Outcomes(), Outcomes()
        _set_terms(served)
        self._canary = served

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """How requests of the live revision and of the canary went, by revision."""
        compared = [self.live] if self._canary is None else [self.live, self._canary]
        return {served.revision.name: served.outcomes.to_dict() for served in compared}

    def count(self, served: ServedRevision, outcome: str, seconds: float) -> None:
        """Count a request while there is a canary."""
        if self._canary is not None:
            served.outcomes.add(outcome, seconds)

    def choose(self, members: tuple[str, ...] | None) -> str:
        """The canary for its share of the requests, "" for the live one; who names members means the live ones."""
        canary = self._canary
        if canary is None or members is not None or random.random() >= canary.share:
            return ""
        return canary.revision.name

    def get(self, revision: str) -> ServedRevision:
        """The one that answers a request: the live one, unless it was meant for another that is still there."""
        return self._prepared.get(revision, self.live)

    def close(self) -> None:
        """Let go of all members."""
        for member in self._members.values():
            member.close()

    def _build(self, spec: EnsembleSpec, folder: Path, apps: Mapping[str, str]) -> ServedRevision:
        revision = build_revision(spec, folder)
        for name in spec.members:
            if apps[name] not in self._members:
                self._members[apps[name]] = self._connect(name)
        return ServedRevision(revision, dict(apps), {name: self._members[apps[name]] for name in spec.members})

    def _retire(self, served: ServedRevision) -> None:
        """Its batches may still be on their way to its members."""
        until = time.monotonic() + served.revision.fusion.deadline_s + 1.0
        self._needed_until.update(dict.fromkeys(served.apps.values(), until))


def _set_terms(served: ServedRevision) -> None:
    """Tell members how long a call must have had to count against them, and which late batches are hedged."""
    for member in served.members.values():
        member.hedge.percentile, member.patience_s = _terms(served.revision.fusion)
    for fuser in served.revision.graph.inner.values():
        for name in fuser.asked:
            member = served.members[name]
            member.hedge.percentile, member.patience_s = _terms(fuser.fusion)


def _terms(fusion: FusionSpec) -> tuple[int | None, float]:
    return int(fusion.hedge.after[1:]) if fusion.hedge else None, FAIR_SHARE * fusion.deadline_s
