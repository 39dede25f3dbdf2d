"""One batch on its way to one member: sent, hedged when it is late, retried once when its replica is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

from quorate.deployments.routing.hedge import Hedge
from quorate.deployments.routing.replica import Peer
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.terms import Terms
from quorate.deployments.transport.messages import Kind, Message, Payload

# At most so many replicas work on one call.
MAX_REPLICAS = 2

OnReply = Callable[[MemberReply], None]


class Routes(Protocol):
    """What a call needs of its member.

    Attributes:
        hedge: how late a call is that is late, and how many may be hedged.
        replicas: how many there are.
    """

    hedge: Hedge

    @property
    def replicas(self) -> Collection[object]: ...

    def choose(self, tried: Collection[Peer] = ()) -> Peer | None:
        """The replica to ask, not one of those that were tried."""

    def read(self, peer: Peer, message: Message, kind: Kind, payload: Payload, latency_s: float) -> MemberReply:
        """Check an answer, and judge the replica by it."""

    def failed(self, peer: Peer, reason: str) -> None:
        """Count a failure of a replica."""

    def lost_with(self, peer: Peer, payload: Payload) -> None:
        """A replica was lost that had these rows."""


class Call:
    """One call.

    Attributes:
        terms: on which it was made.
        finished: it has its reply, or was given up.
    """

    def __init__(self, routes: Routes, kind: Kind, payload: Payload, terms: Terms, done: OnReply):
        self._routes, self._kind, self._payload = routes, kind, payload
        self.terms, self._done = terms, done
        self._under_way: dict[Peer, tuple[int, float]] = {}  # the call's number there, and when it was sent
        self._refusal: MemberReply | None = None  # of a replica, while another may still do better
        self._tried: list[Peer] = []
        self._started = time.monotonic()
        self._hedge_timer: asyncio.TimerHandle | None = None
        self.finished = False

    def start(self, peer: Peer) -> None:
        """Send it, and see to it that it is hedged when it is late."""
        self._send(peer)
        percentile = self.terms.hedge_percentile
        if percentile is None:
            return
        delay_s = self._routes.hedge.delay_s(percentile, len(self._routes.replicas))
        if delay_s is not None and not self.finished:
            self._hedge_timer = asyncio.get_running_loop().call_later(delay_s, self._hedge)

    def give_up(self, reason: str = "deadline") -> None:
        """The batch no longer waits: cancel it. Who has not answered by the deadline has failed."""
        if self.finished:
            return
        # A client may allow next to no time, and a hedge may have been sent a moment ago: that says nothing about the
        # replica, and must not shut it out for others.
        if reason == "deadline":
            longest_ago = time.monotonic() - self.terms.patience_s
            for peer in [peer for peer, (_, sent) in self._under_way.items() if sent <= longest_ago]:
                self._routes.failed(peer, reason)
        if self.terms.trace is not None:
            self.terms.trace.failed(reason)
        self._finish(None)

    def _send(self, peer: Peer, why: str = "") -> None:
        self._tried.append(peer)
        sent = time.monotonic()
        self._under_way[peer] = 0, sent  # a lost connection may reply before call() has returned
        context, trace = b"", self.terms.trace
        if trace is not None:
            context = trace.context
            trace.sent(peer.address.replica_id, why)
        call_id = peer.call(self._kind, self._payload, self.terms.expires, partial(self._reply, peer), context)
        self._under_way[peer] = call_id, sent

    def _hedge(self) -> None:
        peer = self._routes.choose(self._tried)
        if not self.finished and peer is not None and self._routes.hedge.allow():
            self._send(peer, "hedge")

    def _reply(self, peer: Peer, message: Message | None) -> None:
        self._under_way.pop(peer, None)
        if self.finished:
            return
        if message is None:
            self._routes.lost_with(peer, self._payload)
            self._retry_elsewhere()
        else:
            latency_s = time.monotonic() - self._started
            reply = self._routes.read(peer, message, self._kind, self._payload, latency_s)
            if reply.status is None and self._under_way:
                self._refusal = reply
            else:
                if reply.status is not None and self.terms.trace is not None:
                    replica = peer.address.replica_id
                    self.terms.trace.answered(self._payload.rows, reply.failed_rows, reply.inference_s, replica)
                self._finish(self._refusal or reply if reply.status is None else reply)

    def _retry_elsewhere(self) -> None:
        if self._under_way:
            return  # the hedge is still out
        if self._refusal is not None:
            self._finish(self._refusal)
            return
        peer = self._routes.choose(self._tried) if len(self._tried) < MAX_REPLICAS else None
        if peer is None or time.monotonic() >= self.terms.expires:
            self._finish(MemberReply(None, None, "dead"))
        else:
            self._send(peer, "retry")

    def _finish(self, reply: MemberReply | None) -> None:
        self.finished = True
        if self._hedge_timer is not None:
            self._hedge_timer.cancel()
        if self._under_way:
            for peer, (call_id, _) in list(self._under_way.items()):
                peer.drop(call_id)
            self._under_way.clear()
        if reply is not None:
            if reply.status is None and self.terms.trace is not None:
                self.terms.trace.failed(reply.reason)
            self._done(reply)
