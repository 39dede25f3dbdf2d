"""Members that only shadows ask: for a share of the requests, after their answers, and when nobody else has work.

What was fused of a request that is chosen waits, a little of it, until the door has nothing to send; then all that fits
together goes to these members in one call. No answer waits for one, nothing of it takes a place for batches, and what
comes of a call is counted here alone. Where the door has no such moment rows are given up, and counted.
"""

# M members of the live fusion, N of its nodes, K members of shadows' own, R rows

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.requests.request import Request, Signature
from quorate.deployments.engine.revision import Revision
from quorate.deployments.routing.call import Call
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.terms import FAIR_SHARE, Terms
from quorate.deployments.transport.messages import Kind, Payload
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.base import FusedArrays

Array = NDArray[Any]
# An application and a member of it.
Key = tuple[str, str]
# Of the event loop's time; calls under way at a time; rows of one; how long rows wait before they are given up.
SHARE, MOST_CALLS, CALL_ROWS, WAIT_S = 0.02, 2, 128, 1.0
# So long rows gather for one call: a call costs the door and the member about as much as its rows do.
GATHER_S = 0.05
# What waits and is under way; one request may be larger, and is then not asked about.
WAITING_BYTES = 4 << 20
# Between two looks whether the door has nothing to send.
LOOK_S = 0.002
# A member that has just started, or whose door has, is not connected yet: so long it is not asked before it is.
CONNECT_S = 10.0


@dataclass(frozen=True)
class Asks:
    """What a shadow asks itself.

    Attributes:
        share: of the requests.
        apps: the application of each member that it asks.
    """

    share: float
    apps: Mapping[str, str]

    @property
    def keys(self) -> frozenset[Key]:
        """The members, as ``RevisionSet`` knows them."""
        return frozenset((app, name) for name, app in self.apps.items())


@dataclass
class MemberCalls:
    """What became of the calls of one member for shadows.

    Attributes:
        rows: that it was asked about, in ``calls``.
        failed: rows without an answer that can be used, by reason.
        seconds: from question to reply, of the ``replies`` that came.
    """

    rows: int = 0
    calls: int = 0
    replies: int = 0
    seconds: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, rows: int, reply: MemberReply) -> None:
        """Count a call that has ended."""
        self.rows += rows
        self.calls += 1
        if reply.status is None:
            self.failed[reply.reason] += rows
            return
        self.replies += 1
        self.seconds += reply.latency_s
        if reply.failed_rows:
            self.failed.update(RowState(int(state)).reason for state in reply.status if state != RowState.OK)

    def joined(self, other: MemberCalls) -> MemberCalls:
        """Both, as one."""
        numbers = {name: getattr(self, name) + getattr(other, name) for name in ("rows", "calls", "replies", "seconds")}
        return MemberCalls(**numbers, failed=self.failed + other.failed)

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return {**vars(self), "failed": dict(self.failed)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MemberCalls:
        """What ``to_json`` gave, of another version, too."""
        known = {name: data[name] for name in ("rows", "calls", "replies", "seconds") if name in data}
        return cls(**known, failed=Counter(data.get("failed", {})))


class _Together(NamedTuple):
    """What goes in one call: of one revision, for the same shadows, rows of the same shapes."""

    shadows: tuple[str, ...]
    output: str
    signature: Signature
    shapes: tuple[tuple[int, ...], ...]
    abstains: bool


@dataclass
class Asked:
    """Rows that own members are asked about, with what the live fusion had of them.

    Attributes:
        shadows: for which.
        keys: K, the members that are asked.
        requests: whose rows they are, in their order.
        outputs: (M, R, ...) of the live members and then (K, R, ...), likewise their states, (N, R) and (K, R).
        fused: as they were answered.
    """

    shadows: tuple[str, ...]
    revision: Revision
    keys: tuple[Key, ...]
    requests: list[tuple[Request, int]]
    outputs: Array
    states: Array
    fused: FusedArrays


@dataclass
class _Noted:
    """Rows of one batch that wait to be asked about."""

    revision: Revision
    requests: list[Request]
    outputs: Array
    states: Array
    fused: FusedArrays
    nbytes: int
    until: float


class Asking:
    """Asks for shadows; all of it is called on the engine's event loop."""

    def __init__(self, engine: Engine, on_asked: Callable[[Asked], None]):
        """Args:
        on_asked: gets rows about which all that were asked have replied, or are late.
        """
        self._engine, self._on_asked, self._loop = engine, on_asked, asyncio.get_running_loop()
        self._asks: list[tuple[str, Asks, Mapping[str, Revision]]] = []
        self._waiting: dict[_Together, list[_Noted]] = {}
        self._under_way: set[_Call] = set()
        self._held_bytes, self._not_before = 0, 0.0
        self._connecting: dict[Key, float] = {}  # until when they are waited for
        self._timer: asyncio.TimerHandle | None = None
        self.calls: dict[Key, MemberCalls] = {}
        self.given_up_rows = 0

    def use(self, asks: Iterable[tuple[str, Asks, Mapping[str, Revision]]]) -> None:
        """Ask for these shadows from now on: of each its name, what it asks, and its revision by output.

        What waits and is under way is given up, and counts start anew for members that are asked no more.
        """
        self._asks = sorted(asks, key=lambda one: one[1].share)
        keys, until = {key for _, ask, _ in self._asks for key in ask.keys}, time.monotonic() + CONNECT_S
        new = dict.fromkeys(keys - self.calls.keys(), until)
        self._connecting = new | {key: then for key, then in self._connecting.items() if key in keys}
        self.calls = {key: self.calls.get(key) or MemberCalls() for key in keys}
        self._waiting.clear()
        for call in list(self._under_way):
            call.end("gone")
        self._held_bytes = 0

    def close(self) -> None:
        """Ask nothing more."""
        self.use([])
        if self._timer is not None:
            self._timer.cancel()

    def restart(self) -> None:
        """Count anew."""
        self.calls = {key: MemberCalls() for key in self.calls}
        self.given_up_rows = 0

    def note(
        self, revision: Revision, output: str, outputs: Array, states: Array, fused: FusedArrays,
        answered: Sequence[tuple[Request, int]],
    ) -> None:  # fmt: skip
        """Choose among requests that were answered together; see ``Watcher.keep``."""
        asks = self._asks if not self._connecting else self._connected()
        if not asks:
            return
        most, chosen = asks[-1][1].share, dict[tuple[str, ...], list[tuple[Request, int]]]()
        for one in answered:
            drawn = random.random()
            if drawn < most:
                # Who is asked for one request is asked for all shadows that want it: each member is called once.
                names = tuple(name for name, ask, _ in asks if drawn < ask.share)
                chosen.setdefault(names, []).append(one)
        for names, requests in chosen.items():
            self._note(names, revision, output, outputs, states, fused, requests)

    def _connected(self) -> list[tuple[str, Asks, Mapping[str, Revision]]]:
        """Those whose members can be asked by now, or should be."""
        now, members = time.monotonic(), self._engine.revisions
        for key, until in list(self._connecting.items()):
            if members.member(*key).ready() or now > until:
                del self._connecting[key]
        return [one for one in self._asks if one[1].keys.isdisjoint(self._connecting)]

    def _note(
        self, shadows: tuple[str, ...], revision: Revision, output: str, outputs: Array, states: Array,
        fused: FusedArrays, requests: Sequence[tuple[Request, int]],
    ) -> None:  # fmt: skip
        count, nbytes = sum(r.rows for r, _ in requests), sum(r.nbytes for r, _ in requests)
        shapes = (outputs.shape[2:], fused.values.shape[1:])
        key = _Together(shadows, output, requests[0][0].signature, shapes, fused.abstained is not None)
        waiting = self._waiting.get(key, [])
        rows = sum(len(one.fused.values) for one in waiting)
        nbytes += 4 * count * (len(outputs) * math.prod(outputs.shape[2:]) + math.prod(fused.values.shape[1:]))
        if self._held_bytes + nbytes > WAITING_BYTES or (rows and rows + count > CALL_ROWS):
            self.given_up_rows += count
            return
        at = np.concatenate([np.arange(start, start + request.rows) for request, start in requests])
        declined = None if fused.abstained is None else fused.abstained[at]
        # Nobody asks who contributed.
        kept = FusedArrays(fused.values[at], fused.contributions[:0, at], fused.coverage[at], declined)
        until = time.monotonic() + WAIT_S
        noted = _Noted(revision, [r for r, _ in requests], outputs[:, at], states[:, at], kept, nbytes, until)
        self._waiting.setdefault(key, []).append(noted)
        self._held_bytes += nbytes
        self._look_later()

    # -- when nobody else has work for the door

    def _look_later(self) -> None:
        if self._waiting and self._timer is None and len(self._under_way) < MOST_CALLS:
            now, oldest = time.monotonic(), next(iter(self._waiting.values()))[0]
            due = max(now + LOOK_S, self._not_before, oldest.until - WAIT_S + GATHER_S)
            self._timer = self._loop.call_later(due - now, self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        for key, waiting in list(self._waiting.items()):
            if waiting[0].until < now:
                self._give_up(self._waiting.pop(key))
        if self._waiting and not self._engine.loaded:
            key = next(iter(self._waiting))
            began = time.thread_time()
            self._ask(key, self._waiting.pop(key))
            self._spent(began)
        self._look_later()

    def _give_up(self, noted: Sequence[_Noted]) -> None:
        self.given_up_rows += sum(len(one.fused.values) for one in noted)
        self._held_bytes -= sum(one.nbytes for one in noted)

    def _spent(self, began: float) -> None:
        """Ask nothing for a while, so that it all takes no more than its share of the loop's time."""
        now = time.monotonic()
        self._not_before = max(self._not_before, now) + (time.thread_time() - began) / SHARE

    def _ask(self, key: _Together, noted: list[_Noted]) -> None:
        wanted: dict[Key, Revision] = {}
        for name, ask, views in self._asks:
            if name in key.shadows:
                view = views[key.output]
                wanted |= {(app, member): view for member, app in ask.apps.items() if member in view.asked}
        call = _Call(self._engine, key.shadows, wanted, noted, self._ended)
        self._under_way.add(call)
        call.start()

    def _ended(self, call: _Call, asked: Asked | None) -> None:
        """All have replied, or it was given up."""
        self._under_way.discard(call)
        self._held_bytes = max(self._held_bytes - call.nbytes, 0)
        if asked is not None:
            began = time.thread_time()
            for key, reply in call.replies.items():
                self.calls.setdefault(key, MemberCalls()).add(call.rows, reply)
            self._on_asked(asked)
            self._spent(began)
        self._look_later()


class _Call:
    """One question to each of the members that some shadows ask themselves.

    Attributes:
        replies: those that have come.
    """

    def __init__(
        self, engine: Engine, shadows: tuple[str, ...], wanted: Mapping[Key, Revision], noted: list[_Noted],
        on_end: Callable[[_Call, Asked | None], None],
    ):  # fmt: skip
        self._engine, self._shadows, self._wanted, self._noted, self._on_end = engine, shadows, wanted, noted, on_end
        self.rows, self.nbytes = sum(len(one.fused.values) for one in noted), sum(one.nbytes for one in noted)
        self.replies: dict[Key, MemberReply] = {}
        self._calls: dict[Key, Call] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._open = True

    def start(self) -> None:
        """Ask them all."""
        requests = [request for one in self._noted for request in one.requests]
        deadline_s = max(view.deadline_s for view in self._wanted.values())
        self._timer = asyncio.get_running_loop().call_later(deadline_s, self.end, "deadline")
        expires, payloads = time.monotonic() + deadline_s, dict[tuple[str, ...], Payload]()
        for key, view in self._wanted.items():
            sources = view.spec.members[key[1]].inputs
            if sources not in payloads:
                columns = [np.concatenate([request.inputs[source] for request in requests]) for source in sources]
                payloads[sources] = Payload(columns)
            member = self._engine.revisions.member(*key)
            terms = Terms(expires, FAIR_SHARE * view.deadline_s)
            call = member.ask(Kind.CALL_PROBABILITIES, payloads[sources], terms, partial(self._take, key))
            if call is None:
                self.replies[key] = MemberReply(None, None, member.reason)
            elif key not in self.replies:
                self._calls[key] = call
        self._look()

    def end(self, reason: str) -> None:
        """Wait no longer: with what is there, or, when it is ``gone``, for nothing."""
        if not self._open:
            return
        for key, call in self._calls.items():
            if key not in self.replies:
                call.give_up(reason)
                self.replies[key] = MemberReply(None, None, reason)
        self._close(None if reason == "gone" else self._asked())

    def _take(self, key: Key, reply: MemberReply) -> None:
        self.replies[key] = reply
        self._look()

    def _look(self) -> None:
        if self._open and len(self.replies) == len(self._wanted):
            self._close(self._asked())

    def _close(self, asked: Asked | None) -> None:
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        self._on_end(self, asked)

    def _asked(self) -> Asked:
        """What the live members gave, and below it what these did."""
        noted, keys = self._noted, tuple(self._wanted)
        shape = noted[0].outputs.shape[2:]
        given, states = np.zeros((len(keys), self.rows, *shape), np.float32), np.zeros((len(keys), self.rows), np.uint8)
        for place, key in enumerate(keys):
            reply = self.replies[key]
            if reply.values is None or reply.status is None:
                states[place] = RowState.of(reply.reason)
            elif reply.values.shape[1:] != shape:
                states[place] = RowState.SHAPE
            else:
                states[place], there = reply.status, reply.status == RowState.OK
                given[place, there] = reply.values[there]
        outputs = np.concatenate([*(one.outputs for one in noted)], axis=1)
        before = np.concatenate([one.states for one in noted], axis=1)
        requests, at = list[tuple[Request, int]](), 0
        for one in noted:
            for request in one.requests:
                requests.append((request, at))
                at += request.rows
        return Asked(
            self._shadows, noted[0].revision, keys, requests, np.concatenate([outputs, given]),
            np.concatenate([before, states]), _joined([one.fused for one in noted]),
        )  # fmt: skip


def _joined(parts: Sequence[FusedArrays]) -> FusedArrays:
    declined = [one.abstained for one in parts if one.abstained is not None]
    return FusedArrays(
        np.concatenate([one.values for one in parts]), np.concatenate([one.contributions for one in parts], axis=1),
        np.concatenate([one.coverage for one in parts]), np.concatenate(declined) if declined else None,
    )  # fmt: skip
