"""One member as the fusion sees it: its replicas, and the policies by which they are called."""

# B rows

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.routing.balancing import LEFT_OUT, choose
from quorate.deployments.routing.call import Call, OnReply
from quorate.deployments.routing.circuit_breaker import CircuitBreaker
from quorate.deployments.routing.health_probe import HealthProbe
from quorate.deployments.routing.hedge import Hedge
from quorate.deployments.routing.limits import DEFAULT_LIMITS, Limits
from quorate.deployments.routing.nearest import nearest
from quorate.deployments.routing.quarantine import Quarantine
from quorate.deployments.routing.replica import Address, Peer
from quorate.deployments.routing.reply import MemberReply, read_reply
from quorate.deployments.routing.shared_replica import MemberPeer
from quorate.deployments.routing.terms import Terms
from quorate.deployments.transport.messages import Kind, Message, Payload
from quorate.deployments.transport.row_state import RowState

# When to ask again for a member without a replica, or whose replicas have their fill: it may be there at any time.
BACK_S = 1.0
# Connects to a replica, and calls the second argument when it is lost.
Connect = Callable[[Address, Callable[[Peer], None]], Peer]


class Member:
    """One member of the ensemble, however many replicas it has.

    Attributes:
        reason: why the member takes no call now.
        hedge: how late a call is that is late, and how many may be hedged.
        breaker: who is left out.
        quarantine: which rows may be what kills replicas.
        probe: tells a broken replica from rows that no replica can take.
    """

    def __init__(self, name: str, connect: Connect, limits: Limits = DEFAULT_LIMITS, node_id: str = "", own: str = ""):
        """Args:
        node_id, own: where the fusion replica is, and its name; see ``nearest``.
        """
        self._node_id, self._own = node_id, own
        self.name = name
        self.reason = "dead"
        self.hedge = Hedge()
        self.breaker: CircuitBreaker[Peer] = CircuitBreaker()
        self.probe = HealthProbe(self._verdict, self.read)
        self.quarantine = Quarantine()
        self._connect, self._limits = connect, limits
        self._announced: dict[str, Address] = {}
        self._replicas: dict[str, Peer] = {}

    def set_replicas(self, addresses: Mapping[str, Address]) -> None:
        """Say which replicas there are: new ones are connected, others let go once they have answered."""
        self._announced = nearest(addresses, self._node_id, self._own)
        self.reconcile()

    def reconcile(self) -> None:
        """Connect to announced replicas that are not connected, be they new or lost a moment ago."""
        for replica_id, address in self._announced.items():
            if replica_id not in self._replicas:
                self._replicas[replica_id] = self._connect(address, self._lost)
        # A replica that is no longer announced goes on answering until it says that it leaves: its successor may be
        # announced this very moment, and some milliseconds from its first call.
        if any(peer.ready for replica_id, peer in self._replicas.items() if replica_id in self._announced):
            for replica_id, peer in list(self._replicas.items()):
                if replica_id not in self._announced and not peer.outstanding_rows:
                    peer.close()

    @property
    def replicas(self) -> Mapping[str, Peer]:
        """Those that are connected, by their names."""
        return self._replicas

    def ready(self) -> int:
        """How many replicas take calls."""
        return sum(peer.ready and not peer.leaving for peer in self._replicas.values())

    def left_out(self) -> int:
        """How many replicas are left out now."""
        return len(self.breaker.left_out)

    def output(self) -> tuple[str, tuple[int, ...]] | None:
        """Datatype and shape of a row of what the model returns; None while no replica has said so."""
        known = (address for address in self._announced.values() if address.datatype)
        return next(((address.datatype, tuple(address.dims)) for address in known), None)

    def process(self) -> str:
        """In whose process it computes: its ``own``, one ``shared`` with other members, or ``inside`` of this one."""
        address = next(iter(self._announced.values()), None)
        return "own" if address is None or not address.members else "shared" if address.path else "inside"

    def ask(self, kind: Kind, payload: Payload, terms: Terms, done: OnReply) -> Call | None:
        """Send a batch to the least loaded replica; None when the member is dead or left out (see ``reason``)."""
        held = self.quarantine.held(payload) if self.quarantine.deaths else None
        if held is not None and held.any():
            if held.all():
                self.reason = RowState.QUARANTINED.reason
                return None
            payload = Payload([tensor[~held] for tensor in payload.tensors])
            done = partial(_with_held_rows, done, held)
        if self.breaker.left_out:
            due = self.breaker.due()
            if due is not None:
                self.probe.try_again(due, kind, payload, terms.expires)
        peer = self.choose()
        if peer is None:
            return None
        self.hedge.calls += 1
        call = Call(self, kind, payload, terms, done)
        call.start(peer)
        return call

    def untroubled(self) -> MemberPeer | None:
        """Its part of a replica that it shares, where that is its only one, free, and nothing is known against it.

        A good answer then changes nothing of what is known.
        """
        probe = self.probe
        if self.quarantine.deaths or self.breaker.pauses_s or probe.checks or probe.trials or probe.question is None:
            return None
        if len(self._replicas) != 1:
            return None
        (peer,) = self._replicas.values()
        free = peer.ready and not peer.leaving and not peer.outstanding_rows and not peer.failures
        return peer if free and isinstance(peer, MemberPeer) else None

    def choose(self, tried: Collection[Peer] = ()) -> Peer | None:
        """The replica to ask; None when there is none, for the ``reason`` given."""
        left_out = self.breaker.left_out
        peer, reason = choose(self._replicas.values(), left_out, tried, self._limits, time.monotonic())
        if peer is None:
            self.reason = self.breaker.reason if reason == LEFT_OUT else reason
        return peer

    def back_s(self) -> float:
        """In how many seconds it may take calls again; 0 when it takes some now."""
        now = time.monotonic()
        peer, reason = choose(self._replicas.values(), self.breaker.left_out, (), self._limits, now)
        if peer is not None:
            return 0.0
        return max(self.breaker.due_s(), 0.0) if reason == LEFT_OUT else BACK_S

    def read(self, peer: Peer, message: Message, kind: Kind, payload: Payload, latency_s: float) -> MemberReply:
        """Check an answer, judge the replica by it, and keep a row that was answered well."""
        reply = read_reply(message, payload.rows, latency_s)
        if self.quarantine.deaths and reply.status is not None:
            self.quarantine.clear(payload)
        if reply.status is None:
            if reply.reason == "shape":
                self.failed(peer, reply.reason)
            else:
                self.probe.check(peer, reply.reason)
        elif reply.failed_rows < payload.rows:
            self.breaker.succeeded(peer)
            if self.probe.checks or self.probe.trials:
                self.probe.forget(peer)
            self.hedge.answered(latency_s)
            if not reply.failed_rows:
                self.probe.remember(kind, payload)
        else:  # no row was answered: that counts if a row known to be good fails too
            self.probe.check(peer, RowState(int(reply.status[0])).reason)
        return reply

    def failed(self, peer: Peer, reason: str) -> None:
        """Count a failure of a replica."""
        self.breaker.failed(peer, reason)

    def lost_with(self, peer: Peer, payload: Payload) -> None:
        """A replica was lost that had these rows: they may be why."""
        self.quarantine.add(payload, peer.address.replica_id)

    def close(self) -> None:
        """Let go of all replicas."""
        for peer in list(self._replicas.values()):
            peer.close()

    def _verdict(self, peer: Peer, reason: str | None) -> None:
        if reason is None:
            peer.failures = 0
        else:
            self.failed(peer, reason)

    def _lost(self, peer: Peer) -> None:
        if self._replicas.get(peer.address.replica_id) is peer:
            del self._replicas[peer.address.replica_id]
        self.breaker.forget(peer)
        self.probe.forget(peer)


def _with_held_rows(done: OnReply, held: NDArray[np.bool_], reply: MemberReply) -> None:
    """Pass on a reply to the other rows as one to all of them.

    Args:
        held: (B,) the rows that were held back.
    """
    if reply.values is not None and reply.status is not None:
        values = np.zeros((len(held), *reply.values.shape[1:]), reply.values.dtype)
        status = np.full(len(held), RowState.QUARANTINED, np.uint8)
        values[~held], status[~held] = reply.values, reply.status
        reply = replace(reply, values=values, status=status, failed_rows=reply.failed_rows + int(held.sum()))
    done(reply)
