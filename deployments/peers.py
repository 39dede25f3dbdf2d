"""A fusion replica's line to one member replica: calls out, answers in, and word at once when the replica is gone."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import zmq
from numpy.typing import NDArray
from zmq.utils.monitor import parse_monitor_message

from quorate.deployments.framing import Frame, FramingError, Kind, Message, pack, unpack

Array = NDArray[Any]
# Called once per call: with the answer, or with None when the replica was lost.
OnReply = Callable[["Message | None"], None]

# A replica that leaves this many messages unread has stopped: the line is cut instead of growing without bound.
MAX_UNREAD = 1000

_LOST_EVENTS = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_LOST_EVENTS |= zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


@dataclass(frozen=True)
class Address:
    """Where a member replica listens: a socket file for its own node, a port for others."""

    replica_id: str
    node_id: str
    ipc: str
    tcp: str
    server_key: str = ""  # CURVE public key (Z85) that the port proves
    datatype: str = ""  # of what the model returns; empty where it has not been run yet
    dims: tuple[int, ...] = ()  # and the shape of a row of it, -1 where a size is free

    def endpoint(self, node_id: str) -> str:
        return self.ipc if node_id == self.node_id and self.ipc else self.tcp


@dataclass(frozen=True)
class ClientKeys:
    """The CURVE key pair that fusion replicas prove to members on other nodes."""

    public: str
    secret: str


class Peer:
    """One connection. All methods run on the event loop's thread.

    Attributes:
        outstanding_rows: rows sent and not yet answered.
        failures: calls that failed running, the last of them at ``failed_at`` (monotonic time).
        ready: the replica has greeted back; before that nothing is sent to it.
    """

    _ids = itertools.count(1)

    def __init__(
        self,
        context: zmq.Context[Any],
        address: Address,
        node_id: str,
        keys: ClientKeys | None,
        on_lost: Callable[[Peer], None],
    ):
        self.address = address
        self.outstanding_rows = 0
        self.failures = 0
        self.failed_at = 0.0
        self.ready = False
        self.leaving = False
        self.closed = False
        self._pending: dict[int, tuple[OnReply, int]] = {}
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, MAX_UNREAD)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)  # a lost replica is lost: the directory tells of its successor
        endpoint = address.endpoint(node_id)
        if endpoint == address.tcp and keys is not None:
            self._socket.curve_publickey = keys.public.encode()
            self._socket.curve_secretkey = keys.secret.encode()
            self._socket.curve_serverkey = address.server_key.encode()
        self._monitor = self._socket.get_monitor_socket(_LOST_EVENTS)
        self._loop.add_reader(self._monitor.FD, self._read_monitor)
        self._loop.add_reader(self._socket.FD, self._read)
        self._socket.connect(endpoint)
        self._send(pack(Kind.HELLO))
        # ZeroMQ signals only readers that it has seen go to sleep: without this first look no event would ever wake us.
        self._loop.call_soon(self.check)

    def call(self, kind: Kind, tensors: Sequence[Array], rows: int, expires: float, on_reply: OnReply) -> int:
        """Send rows; ``on_reply`` is called exactly once unless the call is dropped. ``expires`` is monotonic time."""
        call_id = next(self._ids)
        self._pending[call_id] = (on_reply, rows)
        self.outstanding_rows += rows
        self._send(pack(kind, call_id, max(expires - time.monotonic(), 0.0), tensors))
        return call_id

    def drop(self, call_id: int) -> None:
        """Nobody waits any more: the replica need not start it, and its answer will be ignored."""
        if self._forget(call_id) is not None and not self.closed:
            self._send(pack(Kind.CANCEL, call_id))
            self._close_if_left()

    def check(self) -> None:
        """Look for answers and for the end of the line without having been woken."""
        self._read()
        self._read_monitor()

    def close(self) -> None:
        """Cut the line; calls under way end as lost."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.FD)
        self._loop.remove_reader(self._monitor.FD)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        pending, self._pending = self._pending, {}
        self.outstanding_rows = 0
        self._on_lost(self)
        for on_reply, _ in pending.values():
            on_reply(None)

    def _send(self, frames: list[Frame]) -> None:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.Again:  # the replica is gone and its monitor has yet to say so, or it reads nothing any more
            self._loop.call_soon(self.close)  # not at once: whoever calls must first learn the call's number
            return
        # Sending may swallow the edge that would have woken the reader (zmq_getsockopt(3), ZMQ_FD).
        self._loop.call_soon(self._read)

    def _read(self) -> None:
        while not self.closed:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = unpack(frames)
            except FramingError:
                self.close()
                return
            self._take(message)

    def _take(self, message: Message) -> None:
        if message.kind == Kind.WELCOME:
            self.ready = True
        elif message.kind == Kind.LEAVING:
            self.leaving = True
            self._close_if_left()
        elif message.kind in (Kind.ANSWER, Kind.FAILURE):
            on_reply = self._forget(message.call_id)
            if on_reply is not None:
                on_reply(message)
                self._close_if_left()

    def _forget(self, call_id: int) -> OnReply | None:
        on_reply, rows = self._pending.pop(call_id, (None, 0))
        self.outstanding_rows -= rows
        return on_reply

    def _close_if_left(self) -> None:
        if self.leaving and not self._pending:
            self.close()

    def _read_monitor(self) -> None:
        while not self.closed:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            if event["event"] & _LOST_EVENTS:
                self._read()  # answers that arrived before the line broke still count
                self.close()
