"""How the fusion reaches one member: which replica is asked, what is retried, and when a member is left out."""

# B rows

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.routing.health_probe import KnownGood
from quorate.deployments.routing.replica import Address, Peer
from quorate.deployments.transport.messages import Kind, Message, Payload, RowStatus

Array = NDArray[Any]

_FAILURE = Kind.FAILURE  # looking a name up in an enum takes Python 3.11 longer than the call it is for
_LAST_STATUS = int(max(RowStatus))
_UINT8 = np.dtype(np.uint8)
FAILURES_TO_LEAVE_OUT = 5
LEFT_OUT_S = 1.0
LEFT_OUT_MAX_S = 30.0
HEDGE_BUDGET = 0.02  # extra calls, as a share of all
HEDGE_WINDOW = 256  # calls that the percentile is taken over
# How much a failure counts against a replica when the least loaded one is chosen, and for how long: one that failed
# is avoided while another is there, but not for ever on account of one failure.
FAILURE_LOAD_ROWS = 256
FAILURE_COUNTS_S = 1.0


@dataclass(slots=True)
class MemberReply:
    """What one member said about a batch.

    Attributes:
        values: (B, ...), None when there is nothing usable.
        status: (B,) RowStatus, None with values.
        reason: why nothing is usable: deadline, dead, error, shape or shed.
        inference_s: seconds the replica computed.
        failed_rows: how many rows of ``values`` may not be used.
        latency_s: seconds from the question to this reply.
    """

    values: Array | None
    status: NDArray[np.uint8] | None
    reason: str = ""
    inference_s: float = 0.0
    failed_rows: int = 0
    latency_s: float = 0.0


OnMember = Callable[[MemberReply], None]


class Ask:
    """One batch on its way to one member; at most two replicas work on it."""

    def __init__(self, member: Member, kind: Kind, payload: Payload, expires: float, done: OnMember):
        self._member, self._kind, self._payload = member, kind, payload
        self.expires, self._done = expires, done
        self._lines: dict[Peer, int] = {}
        self._tried: list[Peer] = []
        self._started = time.monotonic()
        self._hedge_timer: asyncio.TimerHandle | None = None
        self.finished = False

    def start(self, peer: Peer) -> None:
        self._send(peer)
        delay = None if self._member.hedge_percentile is None else self._member.hedge_delay_s()
        if delay is not None and not self.finished:
            self._hedge_timer = asyncio.get_running_loop().call_later(delay, self._hedge)

    def give_up(self, reason: str = "deadline") -> None:
        """The batch no longer waits; the replicas are told, and an answer by the deadline was owed."""
        if self.finished:
            return
        # A client may allow next to no time: that says nothing about the member, and must not shut it out for others.
        if reason == "deadline" and time.monotonic() - self._started >= self._member.patience_s:
            for peer in list(self._lines):
                self._member.failed(peer, reason)
        self._finish(None)

    def _send(self, peer: Peer) -> None:
        self._tried.append(peer)
        self._lines[peer] = 0  # a lost connection may reply before call() has returned
        self._lines[peer] = peer.call(self._kind, self._payload, self.expires, partial(self._reply, peer))

    def _hedge(self) -> None:
        peer = self._member.choose(exclude=self._tried)
        if not self.finished and peer is not None and self._member.may_hedge():
            self._send(peer)

    def _reply(self, peer: Peer, message: Message | None) -> None:
        self._lines.pop(peer, None)
        if self.finished:
            return
        if message is None:
            self._retry_elsewhere()
        elif message.kind is _FAILURE:
            self._member.suspect(peer, "error")
            self._finish(MemberReply(None, None, "error"))
        else:
            reply = self._member.judge(peer, message, self._payload.rows, time.monotonic() - self._started)
            if reply.values is not None and not reply.failed_rows:
                self._member.known_good.remember(self._kind, self._payload)
            self._finish(reply)

    def _retry_elsewhere(self) -> None:
        if self._lines:
            return  # the hedge is still out
        peer = self._member.choose(exclude=self._tried) if len(self._tried) < 2 else None
        if peer is None or time.monotonic() >= self.expires:
            self._finish(MemberReply(None, None, "dead"))
        else:
            self._send(peer)

    def _finish(self, reply: MemberReply | None) -> None:
        self.finished = True
        if self._hedge_timer is not None:
            self._hedge_timer.cancel()
        if self._lines:
            for peer, call_id in list(self._lines.items()):
                peer.drop(call_id)
            self._lines.clear()
        if reply is not None:
            self._done(reply)


class Member:
    """One member of the ensemble, however many replicas it has.

    Attributes:
        reason: why the member takes no call now.
        hedge_percentile: a batch later than this percentile of recent ones goes to a second replica; None for never.
        patience_s: a call that was given up before it had this long does not count against the replica.
        known_good: tells a broken replica from rows that no replica can take.
    """

    def __init__(
        self,
        name: str,
        node_id: str,
        tls: ssl.SSLContext | None = None,
        max_outstanding_rows: int = 4096,
    ):
        self.name = name
        self.reason = "dead"
        self.hedge_percentile: int | None = None
        self.patience_s = 0.0
        self._max_outstanding_rows = max_outstanding_rows
        self.peers: dict[str, Peer] = {}
        self._node_id, self._tls = node_id, tls
        self._announced: dict[str, Address] = {}
        self._left_out_reason = "dead"
        self._left_out_until: dict[Peer, float] = {}
        self._left_out_s: dict[Peer, float] = {}
        self._probes: dict[Peer, int] = {}
        self._latencies: deque[float] = deque(maxlen=HEDGE_WINDOW)
        self._calls = 0
        self._hedges = 0
        self.known_good = KnownGood(self._verdict)

    def set_replicas(self, addresses: Mapping[str, Address]) -> None:
        """Say which replicas there are: new ones are connected, others let go once they have answered."""
        self._announced = dict(addresses)
        self.reconcile()

    def reconcile(self) -> None:
        """Connect to announced replicas that no connection leads to, be they new or lost a moment ago."""
        for replica_id, address in self._announced.items():
            if replica_id not in self.peers:
                self.peers[replica_id] = Peer(address, self._node_id, self._tls, self._lost)
        # A replica that is announced no more goes on answering until it says that it leaves: its successor may be
        # announced this very moment, and some milliseconds from its first call.
        if any(peer.ready for replica_id, peer in self.peers.items() if replica_id in self._announced):
            for replica_id, peer in list(self.peers.items()):
                if replica_id not in self._announced and not peer.outstanding_rows:
                    peer.close()

    def ready(self) -> int:
        """How many replicas take calls."""
        return sum(peer.ready and not peer.leaving for peer in self.peers.values())

    def ask(self, kind: Kind, payload: Payload, expires: float, done: OnMember) -> Ask | None:
        """Send a batch to the least loaded replica; None when the member is dead or left out (see ``reason``)."""
        if self._left_out_until:
            self._probe(kind, payload, expires)
        peer = self.choose()
        if peer is None:
            return None
        self._calls += 1
        ask = Ask(self, kind, payload, expires, done)
        ask.start(peer)
        return ask

    def choose(self, exclude: Sequence[Peer] = ()) -> Peer | None:
        best, least, ready = None, 0, False
        for peer in self.peers.values():
            if not peer.ready or peer.leaving:
                continue
            ready = True
            if peer in exclude or peer in self._left_out_until:
                continue
            load = _load(peer)
            if best is None or load < least:
                best, least = peer, load
        if best is None:
            self.reason = self._left_out_reason if ready else "dead"
            return None
        if best.outstanding_rows >= self._max_outstanding_rows:
            self.reason = "shed"
            return None
        return best

    def judge(self, peer: Peer, message: Message, rows: int, latency_s: float) -> MemberReply:
        """Turn a replica's answer into rows that may be used, and keep the books on the replica."""
        if not _well_formed(message.tensors, rows):
            self.failed(peer, "shape")
            return MemberReply(None, None, "shape")
        values, status = message.tensors
        failed_rows = len(status.nonzero()[0])  # OK is 0
        if failed_rows and int(status.max()) > _LAST_STATUS:
            self.failed(peer, "shape")
            return MemberReply(None, None, "shape")
        if failed_rows < rows:
            self._succeeded(peer, latency_s)
        else:
            self.suspect(peer, RowStatus(int(status[0])).name.lower())
        return MemberReply(values, status, inference_s=message.number, failed_rows=failed_rows, latency_s=latency_s)

    def suspect(self, peer: Peer, reason: str) -> None:
        """Rows failed, and no other row of the call was answered: that counts if a row known to be good fails too."""
        self.known_good.check(peer, reason)

    def _verdict(self, peer: Peer, reason: str | None) -> None:
        if reason is None:
            peer.failures = 0
        else:
            self.failed(peer, reason)

    def failed(self, peer: Peer, reason: str) -> None:
        """Count a failure; at the fifth running the replica is left out, twice as long each time."""
        peer.failures += 1
        peer.failed_at = time.monotonic()
        if peer.failures >= FAILURES_TO_LEAVE_OUT and peer not in self._left_out_until and not peer.closed:
            pause = min(2 * self._left_out_s.get(peer, LEFT_OUT_S / 2), LEFT_OUT_MAX_S)
            self._left_out_s[peer] = pause
            self._left_out_until[peer] = time.monotonic() + pause
            self._left_out_reason = reason

    def output(self) -> tuple[str, tuple[int, ...]] | None:
        """Datatype and shape of a row of what the model returns; None while no replica has said so."""
        known = (address for address in self._announced.values() if address.datatype)
        return next(((address.datatype, tuple(address.dims)) for address in known), None)

    def left_out(self) -> int:
        """How many replicas are left out now."""
        return len(self._left_out_until)

    def hedge_delay_s(self) -> float | None:
        """How late a batch must be before a second replica is asked too; None when hedging is off or too new."""
        if self.hedge_percentile is None or len(self.peers) < 2 or len(self._latencies) < 32:
            return None
        return float(np.percentile(np.fromiter(self._latencies, float), self.hedge_percentile))

    def may_hedge(self) -> bool:
        if self._hedges + 1 > HEDGE_BUDGET * self._calls:
            return False
        self._hedges += 1
        return True

    def close(self) -> None:
        for peer in list(self.peers.values()):
            peer.close()

    def _succeeded(self, peer: Peer, latency_s: float) -> None:
        peer.failures = 0
        if peer in self._left_out_s or self.known_good.checks:
            self._readmit(peer)
        self._latencies.append(latency_s)

    def _lost(self, peer: Peer) -> None:
        if self.peers.get(peer.address.replica_id) is peer:
            del self.peers[peer.address.replica_id]
        self._readmit(peer)

    def _readmit(self, peer: Peer) -> None:
        self._left_out_until.pop(peer, None)
        self._left_out_s.pop(peer, None)
        self._probes.pop(peer, None)
        self.known_good.forget(peer)

    def _probe(self, kind: Kind, payload: Payload, expires: float) -> None:
        """Ask a replica that has been left out long enough, without anyone waiting for its answer."""
        now = time.monotonic()
        if self.known_good.question is not None:  # what is at hand may be somebody's poison
            kind, payload = self.known_good.question
        for peer, until in self._left_out_until.items():
            if until > now or peer.leaving:
                continue
            if peer in self._probes:
                peer.drop(self._probes[peer])
            # Success readmits; until then every probe is followed by a longer pause.
            self._left_out_s[peer] = min(2 * self._left_out_s[peer], LEFT_OUT_MAX_S)
            self._left_out_until[peer] = now + self._left_out_s[peer]

            def on_reply(message: Message | None, peer: Peer = peer) -> None:
                if message is not None and message.kind == Kind.ANSWER and time.monotonic() <= expires:
                    self.judge(peer, message, payload.rows, time.monotonic() - now)

            self._probes[peer] = peer.call(kind, payload, expires, on_reply)
            return


def _load(peer: Peer) -> int:
    if peer.failures and time.monotonic() - peer.failed_at < FAILURE_COUNTS_S:
        return peer.outstanding_rows + FAILURE_LOAD_ROWS * peer.failures
    return peer.outstanding_rows


def _well_formed(tensors: Sequence[Array], rows: int) -> bool:
    """Whether an answer holds one value and one status a row, in numbers."""
    if len(tensors) != 2:
        return False
    values, status = tensors
    shape = values.shape
    fits = len(shape) > 0 and shape[0] == rows and status.shape == (rows,)
    return fits and values.dtype.kind in "biuf" and status.dtype == _UINT8
