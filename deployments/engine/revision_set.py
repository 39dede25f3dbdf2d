"""Revisions with the members they ask: the live one, a prepared one, a canary that gets a share of the requests."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.errors import RequestError
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.replica import Address
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import FusionSpec

# A call given up after less than this share of the ensemble's deadline says nothing about the member.
FAIR_SHARE = 0.5

# Latencies that are kept of each of two revisions that are compared.
RECENT = 2048


@dataclass
class Watch:
    """How the requests of one revision went, while two are compared."""

    answers: int = 0
    degraded: int = 0
    errors: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, outcome: str, seconds: float) -> None:
        """Count one request by its outcome in the metrics; what is the client's doing does not count."""
        if outcome in ("full", "degraded"):
            self.answers += 1
            self.degraded += outcome == "degraded"
            self.latencies_s.append(seconds)
        elif outcome in ("deadline", "quorum", "error"):
            self.errors += 1

    def words(self) -> dict[str, Any]:
        """In plain types, to be added up over replicas."""
        return {
            "answers": self.answers,
            "degraded": self.degraded,
            "errors": self.errors,
            "latencies_s": list(self.latencies_s),
        }


@dataclass
class Lane:
    """A revision and how its members are reached.

    Attributes:
        apps: by member, what ``members`` is known by.
        share: of the requests that this lane gets, while it is a canary.
    """

    revision: Revision
    apps: Mapping[str, str]
    members: Mapping[str, Member]
    share: float = 0.0
    watch: Watch = field(default_factory=Watch)

    def ready(self) -> dict[str, int]:
        """How many replicas of each member take calls."""
        return {name: member.ready() for name, member in self.members.items()}


class Lanes:
    """Which revision answers a request, and the lines to all members that any of them asks.

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
            connect: makes the lines to a member of this name.
            apps: by member, the application that runs it; its own name where none are given.
        """
        self._wiring, self._folder, self._connect = spec.wiring, folder, connect
        self._members: dict[str, Member] = {}  # by application
        self._needed_until: dict[str, float] = {}
        self._prepared: dict[str, Lane] = {}
        self._canary: Lane | None = None
        self.live = self._build(spec, folder, apps or {name: name for name in spec.members})
        _set_terms(self.live)

    def set_replicas(self, app: str, addresses: Mapping[str, Address]) -> None:
        """Say where the replicas of a member's application are now."""
        if app in self._members:
            self._members[app].set_replicas(addresses)

    def reconcile(self) -> None:
        """Mend lost lines, and close those to members that no revision asks any more."""
        needed = {app for lane in (self.live, *self._prepared.values()) for app in lane.apps.values()}
        for app, member in list(self._members.items()):
            if app in needed or time.monotonic() < self._needed_until.get(app, 0.0):
                member.reconcile()
            else:
                self._needed_until.pop(app, None)
                self._members.pop(app).close()

    def prepare(self, spec: EnsembleSpec, folder: Path | None, apps: Mapping[str, str] | None) -> Lane:
        """Build a revision without using it yet; raises what makes it unusable.

        Args:
            apps: the application of each member; those of the live revision when None.
        """
        if spec.wiring != self._wiring or (apps is None and spec.members != self.live.revision.spec.members):
            raise RequestError(
                "a revision changes only the fusion; deploy the spec to change members, inputs or classes"
            )
        lane = self._build(spec, folder or self._folder, self.live.apps if apps is None else apps)
        self._prepared = {lane.revision.name: lane}
        return lane

    def commit(self, name: str) -> None:
        """Use a prepared revision for every batch from now on."""
        if name != self.live.revision.name:
            lane = self._prepared.pop(name)
            self._retire(self.live)
            self.live, self._canary = lane, None
            _set_terms(lane)

    def discard(self, name: str) -> None:
        """Forget a prepared revision."""
        self._canary = None
        if name in self._prepared:
            self._retire(self._prepared.pop(name))

    def start_canary(self, name: str, share: float) -> None:
        """Give a prepared revision a share of the requests; both revisions are watched from now on."""
        lane = self._prepared[name]
        lane.share, lane.watch, self.live.watch = share, Watch(), Watch()
        _set_terms(lane)
        self._canary = lane

    def watched(self) -> dict[str, dict[str, Any]]:
        """How requests of the live revision and of the canary went, by revision."""
        lanes = [self.live] if self._canary is None else [self.live, self._canary]
        return {lane.revision.name: lane.watch.words() for lane in lanes}

    def watch(self, lane: Lane, outcome: str, seconds: float) -> None:
        """Count a request while there is a canary."""
        if self._canary is not None:
            lane.watch.add(outcome, seconds)

    def choose(self, members: tuple[str, ...] | None) -> str:
        """The canary for its share of the requests, "" for the live one; who names members means the live ones."""
        canary = self._canary
        if canary is None or members is not None or random.random() >= canary.share:
            return ""
        return canary.revision.name

    def lane(self, revision: str) -> Lane:
        """By which a request is answered: the live one, unless it was meant for another that is still there."""
        return self._prepared.get(revision, self.live)

    def close(self) -> None:
        """Let go of all members."""
        for member in self._members.values():
            member.close()

    def _build(self, spec: EnsembleSpec, folder: Path, apps: Mapping[str, str]) -> Lane:
        revision = build_revision(spec, folder)
        for name in spec.members:
            if apps[name] not in self._members:
                self._members[apps[name]] = self._connect(name)
        return Lane(revision, dict(apps), {name: self._members[apps[name]] for name in spec.members})

    def _retire(self, lane: Lane) -> None:
        """Its batches may still be on their way to its members."""
        until = time.monotonic() + lane.revision.fusion.deadline_s + 1.0
        self._needed_until.update(dict.fromkeys(lane.apps.values(), until))


def _set_terms(lane: Lane) -> None:
    """Tell members how long a call must have had to count against them, and which late batches are hedged."""
    for member in lane.members.values():
        member.hedge_percentile, member.patience_s = _terms(lane.revision.fusion)
    for fuser in lane.revision.graph.inner.values():
        for name in fuser.asked:
            lane.members[name].hedge_percentile, lane.members[name].patience_s = _terms(fuser.fusion)


def _terms(fusion: FusionSpec) -> tuple[int | None, float]:
    return int(fusion.hedge.after[1:]) if fusion.hedge else None, FAIR_SHARE * fusion.deadline_s
