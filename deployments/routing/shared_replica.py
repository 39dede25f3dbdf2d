"""A replica that several members share: each is called by itself, and what they are asked at one time goes together."""

from __future__ import annotations

import asyncio
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from quorate.deployments.routing.replica import SEND_AHEAD_BYTES, Address, ConnectedPeer, Peer
from quorate.deployments.transport.member_call import MemberCall, Outcome, asked_together
from quorate.deployments.transport.messages import Kind, Message, Payload, pack, pack_for_members

OnLost = Callable[[Peer], None]
# Called with answers, and with None once no more will come.
Take = Callable[["Sequence[Message] | None"], None]


class Inside(Protocol):
    """Members in this process, and the thread that runs them."""

    def ask(self, calls: list[MemberCall], take: Take) -> None:
        """Run calls; ``take`` is called on the event loop with what they gave."""

    def answer(self, calls: Sequence[MemberCall]) -> list[Outcome] | None:
        """What they give, where that is known to be soon; None where they are to be asked."""

    def cancel(self, call_id: int) -> None:
        """Nobody waits any more: it need not be run."""

    def tell(self, telemetry: bytes) -> None:
        """Trace and log so from now on."""


class MemberPeer(Peer):
    """One member's part of a shared replica.

    Attributes:
        shared: that.
        place: the member's in it.
    """

    def __init__(self, shared: SharedReplica, place: int, address: Address, on_lost: OnLost):
        super().__init__(address, on_lost)
        self.shared, self.place = shared, place
        self.ready, self.leaving = shared.ready, shared.leaving

    def tell(self, telemetry: bytes) -> None:
        self.shared.tell(telemetry)

    def _start(self, call_id: int, kind: Kind, payload: Payload, expires: float, context: bytes) -> None:
        self.shared.start(self, MemberCall(call_id, self.place, kind, payload, expires, context))

    def _cancel(self, call_id: int) -> None:
        self.shared.cancel(call_id)

    def _cut(self) -> None:
        for call_id in self._pending:
            self.shared.cancel(call_id)
        self.shared.part(self)


class SharedReplica(ABC):
    """What the parts have in common.

    Attributes:
        ready, leaving: as of each part.
    """

    def __init__(self, address: Address, on_gone: Callable[[str], None]):
        """Args:
        on_gone: told of the replica's name when nobody has a part in it any more, or it is lost.
        """
        self._address, self._on_gone = address, on_gone
        self.ready = self.leaving = False
        self._parts: dict[int, MemberPeer] = {}
        self._waiting: dict[int, MemberPeer] = {}  # by number of the call
        self._due: dict[int, MemberCall] = {}  # likewise, those that are yet to be sent
        self._told = b""
        self._loop = asyncio.get_running_loop()

    def join(self, member: str, on_lost: OnLost) -> Peer:
        """A member's part."""
        place = self._address.members.index(member)
        self._parts[place] = MemberPeer(self, place, self._address.of(member), on_lost)
        return self._parts[place]

    def part(self, part: MemberPeer) -> None:
        """A member lets go of its part."""
        for place in [place for place, one in self._parts.items() if one is part]:
            del self._parts[place]
        if not self._parts:
            self._on_gone(self._address.replica_id)
            self._close()

    def start(self, part: MemberPeer, call: MemberCall) -> None:
        """Send a call, with all that come before the event loop's next turn."""
        if not self._due:
            self._loop.call_soon(self._flush)
        self._due[call.call_id] = call
        self._waiting[call.call_id] = part

    def answer(self, calls: Sequence[MemberCall]) -> list[Outcome] | None:
        """What members give for calls that are not started, at once; None where they have to be."""
        return None

    def cancel(self, call_id: int) -> None:
        """Nobody waits for a call."""
        if self._waiting.pop(call_id, None) is not None and self._due.pop(call_id, None) is None:
            self._withdraw(call_id)

    def tell(self, telemetry: bytes) -> None:
        """Have the replica trace and log so."""
        if telemetry != self._told:
            self._told = telemetry
            self._tell(telemetry)

    def take(self, message: Message) -> None:
        """An answer, or a failure, of one member has come."""
        part = self._waiting.pop(message.call_id, None)
        if part is not None:
            part.take(message)

    def lost(self) -> None:
        """It answers no more."""
        self._due.clear()
        self._waiting.clear()
        self._on_gone(self._address.replica_id)
        for part in list(self._parts.values()):
            part.close()

    def welcome(self) -> None:
        """It takes calls."""
        self.ready = True
        for part in self._parts.values():
            part.ready = True

    def leave(self) -> None:
        """It says that it leaves."""
        self.leaving = True
        for part in list(self._parts.values()):
            part.leave()

    def _flush(self) -> None:
        if self._due and self._has_room():
            due, self._due = list(self._due.values()), {}
            self._send(due)

    def _has_room(self) -> bool:
        return True

    @abstractmethod
    def _send(self, calls: list[MemberCall]) -> None: ...

    @abstractmethod
    def _withdraw(self, call_id: int) -> None: ...

    @abstractmethod
    def _tell(self, telemetry: bytes) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...


class InsideReplica(SharedReplica):
    """Members that this process runs itself."""

    def __init__(self, address: Address, inside: Inside, on_gone: Callable[[str], None]):
        super().__init__(address, on_gone)
        self._inside = inside
        self.ready = True

    def answer(self, calls: Sequence[MemberCall]) -> list[Outcome] | None:
        return None if self._due else self._inside.answer(calls)

    def _send(self, calls: list[MemberCall]) -> None:
        self._inside.ask(calls, self._answered)

    def _answered(self, messages: Sequence[Message] | None) -> None:
        if messages is None:
            self.lost()
        else:
            for message in messages:
                self.take(message)

    def _withdraw(self, call_id: int) -> None:
        self._inside.cancel(call_id)

    def _tell(self, telemetry: bytes) -> None:
        self._inside.tell(telemetry)

    def _close(self) -> None:
        """Its thread is whoever's who started it."""


class SharedConnection(SharedReplica):
    """Members that another process runs: rows that several of them read travel once."""

    def __init__(self, address: Address, node_id: str, tls: ssl.SSLContext | None, on_gone: Callable[[str], None]):
        super().__init__(address, on_gone)
        self._line = _Line(address, node_id, tls, self, self._flush)

    def _has_room(self) -> bool:
        return self._line.has_room()

    def _send(self, calls: list[MemberCall]) -> None:
        for together in asked_together(calls):
            self._line.send(together)

    def _withdraw(self, call_id: int) -> None:
        self._line.withdraw(call_id)

    def _tell(self, telemetry: bytes) -> None:
        self._line.tell(telemetry)

    def _close(self) -> None:
        self._line.close()


class _Line(ConnectedPeer):
    """The connection; whose calls they are its owner knows."""

    def __init__(
        self,
        address: Address,
        node_id: str,
        tls: ssl.SSLContext | None,
        shared: SharedConnection,
        on_room: Callable[[], None],
    ):
        super().__init__(address, node_id, tls, lambda _: shared.lost())
        self._shared = shared
        self._connection.room = on_room

    def has_room(self) -> bool:
        """Whether more is to be sent now."""
        return self._connection.unsent_bytes <= SEND_AHEAD_BYTES

    def send(self, calls: Sequence[MemberCall]) -> None:
        """Send calls about the same rows."""
        payload, expires = calls[0].payload, max(call.expires for call in calls)
        self._allow(payload)
        for call in calls:
            self._send_context(call.call_id, call.context)
        asked = [(call.call_id, call.member, call.kind) for call in calls]
        self._connection.send(pack_for_members(asked, max(expires - time.monotonic(), 0.0), payload))

    def withdraw(self, call_id: int) -> None:
        """Nobody waits for what was sent."""
        if not self.closed:
            self._connection.send(pack(Kind.CANCEL, call_id))

    def take(self, message: Message) -> None:
        self._shared.take(message)

    def leave(self) -> None:
        self.leaving = True
        self._shared.leave()

    def _welcome(self, message: Message) -> None:
        super()._welcome(message)
        if self.ready:
            self._shared.welcome()


class Connections:
    """How a fusion replica reaches the replicas of members: those that several share are reached once."""

    def __init__(
        self, node_id: str, tls: ssl.SSLContext | None, inside: Callable[[str], Inside | None] = lambda replica: None
    ):
        """Args:
        node_id: where the fusion replica is.
        tls: for replicas on other nodes.
        inside: the members of a replica that is in this process, by its name; None for others.
        """
        self._node_id, self._tls, self._inside = node_id, tls, inside
        self._shared: dict[str, SharedReplica] = {}

    def connect(self, member: str, address: Address, on_lost: OnLost) -> Peer:
        """Connect a member to a replica; see ``Peer``."""
        if not address.members:
            return ConnectedPeer(address, self._node_id, self._tls, on_lost)
        shared = self._shared.get(address.replica_id)
        if shared is None:
            shared = self._shared[address.replica_id] = self._reached(address)
        return shared.join(member, on_lost)

    def _reached(self, address: Address) -> SharedReplica:
        inside = self._inside(address.replica_id)
        if inside is not None:
            return InsideReplica(address, inside, self._gone)
        return SharedConnection(address, self._node_id, self._tls, self._gone)

    def _gone(self, replica_id: str) -> None:
        self._shared.pop(replica_id, None)
