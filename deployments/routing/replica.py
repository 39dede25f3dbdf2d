"""A member replica as a fusion replica sees it: calls out, answers in, and a callback at once when it is lost."""

from __future__ import annotations

import itertools
import logging
import ssl
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quorate.deployments.transport.connection import Connection
from quorate.deployments.transport.framing import call_to_stream, to_stream
from quorate.deployments.transport.messages import (
    Frame,
    FramingError,
    Kind,
    Message,
    Payload,
    max_answer_bytes,
    pack,
    pack_greeting,
    pack_text,
    unpack,
)
from quorate.deployments.transport.tcp import connect_tcp
from quorate.deployments.transport.unix import connect_unix
from quorate.deployments.transport.version import TELEMETRY_SINCE, agreed, refusal

# What goes to a connection before the kernel takes it; the rest waits here, where it can still be withdrawn. A replica
# reads nothing while it computes, and the connection would be cut for it.
SEND_AHEAD_BYTES = 1 << 20

_REPLIES = (Kind.ANSWER, Kind.FAILURE)
# Called once per call: with the answer, or with None when the replica was lost.
OnReply = Callable[["Message | None"], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Where a member replica listens: a socket file for its own node, a port for others."""

    replica_id: str
    node_id: str
    path: str = ""
    host: str = ""
    port: int = 0
    datatype: str = ""  # of what the model returns; empty where it has not been run yet
    dims: tuple[int, ...] = ()  # and the shape of a row of it, -1 where a size is free
    members: tuple[str, ...] = ()  # that share the replica, in its order; none where there is one alone
    outputs: tuple[tuple[str, tuple[int, ...]], ...] = ()  # of each of them datatype and shape

    def of(self, member: str) -> Address:
        """The same, of one of the members that share the replica."""
        if member not in self.members:
            return self
        datatype, dims = self.outputs[self.members.index(member)]
        return replace(self, datatype=datatype, dims=tuple(dims))

    @classmethod
    def announced(cls, said: Mapping[str, Any]) -> Address:
        """What a replica says of itself; what a later version says besides is left out."""
        return cls(**{name: value for name, value in said.items() if name in cls.__dataclass_fields__})


class Peer(ABC):
    """One replica of a member, as it is called. All methods run on the event loop's thread.

    Attributes:
        outstanding_rows: rows of calls that are not answered yet, sent or waiting to be sent.
        outstanding_bytes: of these calls.
        failures: calls that failed running, the last of them at ``failed_at`` (monotonic time).
        ready: it takes calls; before that nothing is sent to it.
        leaving: but only those that it has.
    """

    _ids = itertools.count(1)

    def __init__(self, address: Address, on_lost: Callable[[Peer], None]):
        self.address = address
        self.outstanding_rows = 0
        self.outstanding_bytes = 0
        self.failures = 0
        self.failed_at = 0.0
        self.ready = False
        self.leaving = False
        self.closed = False
        self._pending: dict[int, tuple[OnReply, Payload]] = {}
        self._on_lost = on_lost

    @abstractmethod
    def tell(self, telemetry: bytes) -> None:
        """Have it trace and log so; see ``telemetry.settings``."""

    def call(self, kind: Kind, payload: Payload, expires: float, on_reply: OnReply, context: bytes = b"") -> int:
        """Send rows; ``on_reply`` is called exactly once unless the call is dropped. ``expires`` is monotonic time.

        Args:
            context: whose rows they are, see ``telemetry.call_context``; empty where they are not traced.
        """
        call_id = next(self._ids)
        self._expect(call_id, payload, on_reply)
        self._start(call_id, kind, payload, expires, context)
        return call_id

    def drop(self, call_id: int) -> None:
        """Nobody waits any more: the replica need not start it, and its answer will be ignored."""
        if self._forget(call_id) is None or self.closed:
            return
        self._cancel(call_id)
        self._close_if_left()

    def close(self) -> None:
        """Cut the connection; calls under way end as lost."""
        if self.closed:
            return
        self.closed = True
        self._cut()
        pending, self._pending = self._pending, {}
        self.outstanding_rows = self.outstanding_bytes = 0
        self._on_lost(self)
        for on_reply, _ in pending.values():
            _tell(on_reply, None)

    @abstractmethod
    def _start(self, call_id: int, kind: Kind, payload: Payload, expires: float, context: bytes) -> None:
        """Send a call."""

    @abstractmethod
    def _cancel(self, call_id: int) -> None:
        """Nobody waits any more for a call that was sent."""

    @abstractmethod
    def _cut(self) -> None:
        """Send and read no more."""

    def _expect(self, call_id: int, payload: Payload, on_reply: OnReply) -> None:
        self._pending[call_id] = (on_reply, payload)
        self.outstanding_rows += payload.rows
        self.outstanding_bytes += payload.nbytes

    def take(self, message: Message) -> None:
        """An answer, or a failure, has come."""
        on_reply = self._forget(message.call_id)
        if on_reply is not None:
            _tell(on_reply, message)
            if self.leaving:
                self._close_if_left()

    def leave(self) -> None:
        """It sends word that it leaves."""
        self.leaving = True
        self._close_if_left()

    def _forget(self, call_id: int) -> OnReply | None:
        found = self._pending.pop(call_id, None)
        if found is None:
            return None
        on_reply, payload = found
        self.outstanding_rows -= payload.rows
        self.outstanding_bytes -= payload.nbytes
        return on_reply

    def _close_if_left(self) -> None:
        if self.leaving and not self._pending:
            self.close()


class ConnectedPeer(Peer):
    """A replica in a process of its own, and the connection to it.

    Attributes:
        ready: the replica has greeted back.
        version: of the wire, that both speak; 0 before that.
    """

    def __init__(
        self,
        address: Address,
        node_id: str,
        tls: ssl.SSLContext | None,
        on_lost: Callable[[Peer], None],
    ):
        super().__init__(address, on_lost)
        self.version, self._telemetry = 0, b""
        self._waiting: OrderedDict[int, tuple[Kind, float, bytes]] = OrderedDict()  # pending, but not sent yet
        if address.path and node_id == address.node_id:
            self._connection = connect_unix(Path(address.path), self._read, self._lose)
        else:
            assert tls is not None, "a replica on another node is reached with the cluster's keys only"
            self._connection = connect_tcp(address.host, address.port, tls, self._read, self._lose)
        self._most_rows = 0  # in one call
        self._connection.allow(max_answer_bytes(0))
        self._connection.room = self._send_waiting
        self._connection.send(pack_greeting(Kind.HELLO))

    def tell(self, telemetry: bytes) -> None:
        """Have it trace and log so, once it has greeted back."""
        self._telemetry = telemetry
        if telemetry and self.version >= TELEMETRY_SINCE and not self.closed:
            self._connection.send(pack_text(Kind.TELEMETRY, telemetry))

    def _start(self, call_id: int, kind: Kind, payload: Payload, expires: float, context: bytes) -> None:
        self._allow(payload)
        if self._connection.unsent_bytes > SEND_AHEAD_BYTES:
            self._waiting[call_id] = kind, expires, context
        else:
            self._send(call_id, kind, expires, context, payload)

    def _allow(self, payload: Payload) -> None:
        """Let in an answer about so many rows."""
        if payload.rows > self._most_rows:
            self._most_rows = payload.rows
            self._connection.allow(max_answer_bytes(payload.rows))

    def _send(self, call_id: int, kind: Kind, expires: float, context: bytes, payload: Payload) -> None:
        left_s = max(expires - time.monotonic(), 0.0)
        message = call_to_stream(kind, call_id, left_s, payload)
        if context and self.version >= TELEMETRY_SINCE:
            about = pack_text(Kind.CONTEXT, context, call_id)
            if message is None:
                self._connection.send(about)
            else:
                message = b"".join([*to_stream(about), message])
        if message is not None:
            self._connection.send_stream(message)
        else:
            self._connection.send(pack(kind, call_id, left_s, payload))

    def _send_context(self, call_id: int, context: bytes) -> None:
        if context and self.version >= TELEMETRY_SINCE:
            self._connection.send(pack_text(Kind.CONTEXT, context, call_id))

    def _cancel(self, call_id: int) -> None:
        if self._waiting.pop(call_id, None) is None:
            self._connection.send(pack(Kind.CANCEL, call_id))

    def _cut(self) -> None:
        self._connection.close()
        self._waiting.clear()

    def _send_waiting(self) -> None:
        """Send calls that wait, for as long as the socket takes them."""
        while self._waiting and self._connection.unsent_bytes <= SEND_AHEAD_BYTES:
            call_id, (kind, expires, context) = self._waiting.popitem(last=False)
            self._send(call_id, kind, expires, context, self._pending[call_id][1])

    def _lose(self, connection: Connection) -> None:
        self.close()

    def _read(self, connection: Connection, frames: list[Frame]) -> None:
        try:
            message = unpack(frames)
        except FramingError:
            self.close()
            return
        if message.kind == Kind.FAILURE and not self.ready:
            self._refused(message.text)
        elif message.kind in _REPLIES:
            self.take(message)
        elif message.kind == Kind.WELCOME:
            self._welcome(message)
        elif message.kind == Kind.LEAVING:
            self.leave()

    def _welcome(self, message: Message) -> None:
        self.version = agreed(message.number, message.call_id)
        self.ready = bool(self.version)
        if self.ready:
            self.tell(self._telemetry)
        else:
            self._refused(refusal(message.number, message.call_id))

    def _refused(self, why: str) -> None:
        """It is left connected and asked nothing: connecting again would change nothing."""
        _log.error("replica %s is not asked: %s", self.address.replica_id, why)


def _tell(on_reply: OnReply, message: Message | None) -> None:
    """Whatever goes wrong with one answer ends neither the connection nor other calls; its request has a deadline."""
    try:
        on_reply(message)
    except Exception:
        _log.exception("a member's answer could not be used")
