"""How many connections a door has open, all together and of one peer, and how long a client may take.

What one peer opens beyond its own limit, and all together beyond the door's, takes the place of an idle connection of
the peer that has most: nobody's idle connections shut others out.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PEER = 8192, 4096
# A request must be here this long after its first byte, and longer only as far as it keeps coming at this rate
# (as Apache's mod_reqtimeout has it): a client may be far away, but not idle on purpose.
ARRIVAL_S, MIN_BYTES_PER_S = 20.0, 1024
# What there is for a client that does not read it is kept for so long, and longer only as far as it reads at that rate.
UNREAD_S = 60.0


class Connection(Protocol):
    """Of a door."""

    @property
    def idle(self) -> bool:
        """Whether it could give way to another: open, and nothing has been asked that is not answered."""

    def give_way(self) -> None:
        """Close, for another one; only an idle connection is asked to."""


C = TypeVar("C", bound=Connection)


class ConnectionLimits(Generic[C]):
    """The connections of one door, by the address that they come from, each peer's in the order in which they came."""

    def __init__(self) -> None:
        self._peers: dict[str, dict[C, None]] = {}
        self._count = 0

    def enter(self, connection: C, peer: str) -> bool:
        """Count a connection; whether there is a place for it, if need be that of an idle one, which is closed."""
        own = self._peers.setdefault(peer, {})
        own[connection] = None
        self._count += 1
        if self._count <= MAX_CONNECTIONS and len(own) <= MAX_CONNECTIONS_PER_PEER:
            return True
        most = own if len(own) > MAX_CONNECTIONS_PER_PEER else max(self._peers.values(), key=len)
        for other in most:  # the oldest first
            if other is not connection and other.idle:
                other.give_way()
                return True
        return False

    def leave(self, connection: C, peer: str) -> None:
        """Count it no more; nothing happens the second time."""
        own = self._peers.get(peer, {})
        if connection in own:
            del own[connection]
            self._count -= 1
        if not own:
            self._peers.pop(peer, None)
