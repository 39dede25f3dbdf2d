"""What the connections of a gRPC door have in common: what may be called, by whom, and how much of everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.server.connection_limits import C, ConnectionLimits
from quorate.deployments.server.grpc.call import CallError, Method
from quorate.deployments.server.service import Service

MAX_CALLS, READ_BYTES = 4096, 256 << 10


class Lobby(Generic[C]):
    """Belongs to one door.

    Attributes:
        service: what the door asks; its budget counts what messages hold.
        keeper: admits calls.
        methods: by path.
        connections: that are open.
        calls: how many are under way.
        read_buffer: what a connection reads goes through it, and is copied from it before another one reads.
    """

    def __init__(self, service: Service, keeper: Doorkeeper, methods: Mapping[bytes, Method]):
        self.service, self.keeper, self.methods = service, keeper, methods
        self.connections: set[C] = set()
        self.read_buffer = bytearray(READ_BYTES)
        self.calls = self._most_message_bytes = 0
        self._limits: ConnectionLimits[C] = ConnectionLimits()

    def enter(self, connection: C, peer: str) -> bool:
        """Count a new connection; whether there is a place for it."""
        self.connections.add(connection)
        return self._limits.enter(connection, peer)

    def give_place(self, connection: C, peer: str) -> None:
        """Count it no more, while it still closes."""
        self._limits.leave(connection, peer)

    def leave(self, connection: C, peer: str) -> None:
        """It is closed."""
        self.connections.discard(connection)
        self._limits.leave(connection, peer)

    def most_message_bytes(self, size: int) -> int:
        """The longest message that a request to some model can need.

        Args:
            size: of the message that asks; while it is short there is no need to look what models there are now.
        """
        if size > self._most_message_bytes:
            service = self.service
            self._most_message_bytes = max(service.most_body_bytes(model) for model in service.models)
        return self._most_message_bytes

    def check_room(self) -> None:
        """Raise CallError where there are too many calls under way already."""
        if self.calls >= MAX_CALLS:
            raise CallError("RESOURCE_EXHAUSTED", f"{MAX_CALLS} calls are under way already; retry later")
