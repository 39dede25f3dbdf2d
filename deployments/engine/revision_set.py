"""Revisions with the members they ask: the live one, a prepared one, a canary that gets a share of the requests."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorate.deployments.engine.fan_out import Asked
from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.engine.thinning import NOT_ASKED, Thinning, worth_order
from quorate.deployments.errors import RequestError, UnavailableError
from quorate.deployments.metrics.outcomes import Outcomes
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.replica import Address
from quorate.deployments.spec.ensemble import EnsembleSpec


@dataclass
class ServedRevision:
    """A revision and its members, connected.

    Attributes:
        apps: by member, the application that runs it.
        share: of the requests that it gets, while it is a canary.
        outcomes: of its requests, while there is a canary.
        thinning: who is left out under too much load; None where nobody ever is.
        views: each of its outputs by itself, where it has several.
    """

    revision: Revision
    apps: Mapping[str, str]
    members: Mapping[str, Member]
    share: float = 0.0
    outcomes: Outcomes = field(default_factory=Outcomes)
    thinning: Thinning | None = None
    views: Mapping[str, ServedRevision] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        views = self.revision.views.items()
        self.views = {name: ServedRevision(view, self.apps, self.members) for name, view in views}

    def asked_now(self) -> Mapping[str, Asked]:
        """The members as a batch asks them: those that are left out take no call."""
        if self.thinning is None or not self.thinning.left_out:
            return self.members
        return {**self.members, **dict.fromkeys(self.thinning.left_out, NOT_ASKED)}

    def ready(self) -> dict[str, int]:
        """How many replicas of each member take calls."""
        return {name: member.ready() for name, member in self.members.items()}


class RevisionSet:
    """Which revision answers a request, and the connections to all members that any of them asks.

    Attributes:
        live: answers every request that is not meant for another.
    """

    def __init__(
        self,
        spec: EnsembleSpec,
        folder: Path,
        connect: Callable[[str], Member],
        apps: Mapping[str, str] | None = None,
        spent_s: Callable[[str], float] = lambda member: 0.0,
    ):
        """
        Args:
            spec: the ensemble as it starts.
            folder: what its paths start from.
            connect: makes a member of this name, without replicas yet.
            apps: by member, the application that runs it; its own name where none are given.
            spent_s: how many seconds a forward pass of a member takes; 0 where that is not known yet.
        """
        self._spent_s = spent_s
        self._wiring, self._folder, self._connect = spec.wiring, folder, connect
        self._members: dict[tuple[str, str], Member] = {}  # by application, and name: several may have one
        self._needed_until: dict[str, float] = {}
        self._beside: frozenset[tuple[str, str]] = frozenset()
        self._prepared: dict[str, ServedRevision] = {}
        self._canary: ServedRevision | None = None
        self.live = self._build(spec, folder, apps or {name: name for name in spec.members})

    def set_replicas(self, app: str, addresses: Mapping[str, Address]) -> None:
        """Say where the replicas of an application are now; all members that it runs are told."""
        for (of, name), member in self._members.items():
            if of == app:
                there = {replica_id: one for replica_id, one in addresses.items() if name in (one.members or (name,))}
                member.set_replicas({replica_id: one.of(name) for replica_id, one in there.items()})

    def connect_beside(self, members: Iterable[tuple[str, str]]) -> None:
        """Have these members connected, and no others than these and those that revisions ask.

        Args:
            members: application and name of each.
        """
        self._beside = frozenset(members)
        for key in self._beside - self._members.keys():
            self._members[key] = self._connect(key[1])

    def member(self, app: str, name: str) -> Member:
        """One that is connected."""
        return self._members[app, name]

    def reconcile(self) -> list[tuple[str, str]]:
        """Connect again where connections were lost, and close those to members that no revision asks any more.

        Returns:
            Of the members that were closed their applications and names.
        """
        closed: list[tuple[str, str]] = []
        needed = {app for served in (self.live, *self._prepared.values()) for app in served.apps.values()}
        needed |= {app for app, _ in self._beside}
        for key, member in list(self._members.items()):
            app = key[0]
            if app in needed or time.monotonic() < self._needed_until.get(app, 0.0):
                member.reconcile()
            else:
                del self._members[key]
                member.close()
                closed.append(key)
        for app, _ in closed:
            self._needed_until.pop(app, None)
        return closed

    def members(self) -> list[Member]:
        """All that are connected."""
        return list(self._members.values())

    def asks(self, name: str) -> bool:
        """Whether a member of this name is connected, of any application."""
        return any(member.name == name for member in self._members.values())

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
        for earlier in list(self._prepared):
            self.discard(earlier)
        self._prepared = {served.revision.name: served}
        return served

    def knows(self, name: str, apps: Mapping[str, str]) -> bool:
        """Whether a revision is live or prepared, with members in these applications."""
        return any(one.revision.name == name and one.apps == apps for one in (self.live, *self._prepared.values()))

    def commit(self, name: str) -> None:
        """Use a prepared revision for every request from now on."""
        if name == self.live.revision.name and self.get(name).apps == self.live.apps:
            self.discard(name)
        else:  # of the live one's name, too, whose members have been placed otherwise
            served = self.get(name)
            del self._prepared[name]
            self._retire(self.live)
            self.live, self._canary = served, None

    def discard(self, name: str) -> None:
        """Forget a prepared revision."""
        if name in self._prepared:
            served = self._prepared.pop(name)
            self._retire(served)
            if self._canary is served:
                self._canary = None

    def start_canary(self, name: str, share: float) -> None:
        """Give a prepared revision a share of the requests; those of both revisions are counted from now on."""
        served = self.get(name)
        served.share, served.outcomes, self.live.outcomes = share, Outcomes(), Outcomes()
        self._canary = served

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """How requests of the live revision and of the canary went, by revision."""
        compared = [self.live] if self._canary is None else [self.live, self._canary]
        return {served.revision.name: served.outcomes.to_dict() for served in compared}

    def count(self, served: ServedRevision, outcome: str, seconds: float) -> None:
        """Count a request while there is a canary."""
        if self._canary is not None:
            served.outcomes.add(outcome, seconds)

    def choose(self, *, named: bool = False) -> ServedRevision:
        """The one that is to answer a request: the canary for its share of them, else the live one.

        Args:
            named: the request names members, and means those of the live revision.
        """
        canary = self._canary
        return self.live if canary is None or named or random.random() >= canary.share else canary

    def get(self, revision: str) -> ServedRevision:
        """The live or a prepared revision, by name.

        Raises:
            UnavailableError: it is neither, or no more.
        """
        if revision in self._prepared:
            return self._prepared[revision]
        if revision == self.live.revision.name:
            return self.live
        raise UnavailableError(f"revision {revision} is neither live nor prepared here; prepare it again")

    def close(self) -> None:
        """Let go of all members."""
        for member in self._members.values():
            member.close()

    def _build(self, spec: EnsembleSpec, folder: Path, apps: Mapping[str, str]) -> ServedRevision:
        revision = build_revision(spec, folder)
        for name in spec.members:
            if (apps[name], name) not in self._members:
                self._members[apps[name], name] = self._connect(name)
        members = {name: self._members[apps[name], name] for name in spec.members}
        return ServedRevision(revision, dict(apps), members, thinning=self._thinning(revision))

    def _thinning(self, revision: Revision) -> Thinning | None:
        fusion, asked = revision.fusion, revision.asked
        if fusion.overload != "thin":
            return None
        weights = fusion.weights or dict.fromkeys(asked, 1.0)
        order = worth_order([step.without for step in fusion.thinning.steps], weights, self._spent_s)
        return Thinning(asked, min(fusion.quorum, len(asked)), fusion.required, order)

    def _retire(self, served: ServedRevision) -> None:
        """Its batches may still be on their way to its members."""
        until = time.monotonic() + served.revision.deadline_s + 1.0
        self._needed_until.update(dict.fromkeys(served.apps.values(), until))
