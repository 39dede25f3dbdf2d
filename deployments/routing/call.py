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
from quorate.deployments.transport.messages import Kind, Message, Payload

# At most so many replicas work on one call.
MAX_REPLICAS = 2

OnReply = Callable[[MemberReply], None]


class Routes(Protocol):
    """What a call needs of its member.

    Attributes:
        hedge: when a second replica is asked as well.
        patience_s: a call that was given up before it had this long does not count against the replica.
        replicas: how many there are.
    """

    hedge: Hedge
    patience_s: float

    @property
    def replicas(self) -> Collection[object]: ...

    def choose(self, tried: Collection[Peer] = ()) -> Peer | None:
        """The replica to ask, not one of those that were tried."""

    def read(self, peer: Peer, message: Message, kind: Kind, payload: Payload, latency_s: float) -> MemberReply:
        """Check an answer, and judge the replica by it."""

    def failed(self, peer: Peer, reason: str) -> None:
        """Count a failure of a replica."""


class Call:
    """One call.

    Attributes:
        expires: when nobody waits for it any more (monotonic time).
        finished: it has its reply, or was given up.
    """

    def __init__(self, routes: Routes, kind: Kind, payload: Payload, expires: float, done: OnReply):
        self._routes, self._kind, self._payload = routes, kind, payload
        self.expires, self._done = expires, done
        self._under_way: dict[Peer, int] = {}
        self._tried: list[Peer] = []
        self._started = time.monotonic()
        self._hedge_timer: asyncio.TimerHandle | None = None
        self.finished = False

    def start(self, peer: Peer) -> None:
        """Send it, and see to it that it is hedged when it is late."""
        self._send(peer)
        hedge = self._routes.hedge
        if hedge.percentile is None:
            return
        delay_s = hedge.delay_s(len(self._routes.replicas))
        if delay_s is not None and not self.finished:
            self._hedge_timer = asyncio.get_running_loop().call_later(delay_s, self._hedge)

    def give_up(self, reason: str = "deadline") -> None:
        """The batch no longer waits; the replicas are told, and an answer by the deadline was owed."""
        if self.finished:
            return
        # A client may allow next to no time: that says nothing about the member, and must not shut it out for others.
        if reason == "deadline" and time.monotonic() - self._started >= self._routes.patience_s:
            for peer in list(self._under_way):
                self._routes.failed(peer, reason)
        self._finish(None)

    def _send(self, peer: Peer) -> None:
        self._tried.append(peer)
        self._under_way[peer] = 0  # a lost connection may reply before call() has returned
        self._under_way[peer] = peer.call(self._kind, self._payload, self.expires, partial(self._reply, peer))

    def _hedge(self) -> None:
        peer = self._routes.choose(self._tried)
        if not self.finished and peer is not None and self._routes.hedge.allow():
            self._send(peer)

    def _reply(self, peer: Peer, message: Message | None) -> None:
        self._under_way.pop(peer, None)
        if self.finished:
            return
        if message is None:
            self._retry_elsewhere()
        else:
            latency_s = time.monotonic() - self._started
            self._finish(self._routes.read(peer, message, self._kind, self._payload, latency_s))

    def _retry_elsewhere(self) -> None:
        if self._under_way:
            return  # the hedge is still out
        peer = self._routes.choose(self._tried) if len(self._tried) < MAX_REPLICAS else None
        if peer is None or time.monotonic() >= self.expires:
            self._finish(MemberReply(None, None, "dead"))
        else:
            self._send(peer)

    def _finish(self, reply: MemberReply | None) -> None:
        self.finished = True
        if self._hedge_timer is not None:
            self._hedge_timer.cancel()
        if self._under_way:
            for peer, call_id in list(self._under_way.items()):
                peer.drop(call_id)
            self._under_way.clear()
        if reply is not None:
            self._done(reply)
