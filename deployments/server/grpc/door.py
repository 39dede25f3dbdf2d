"""The gRPC door: a listening socket and its connections."""

from __future__ import annotations

import asyncio
import socket
import time

from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.security.certificates import Certificates
from quorate.deployments.security.doors import Doors
from quorate.deployments.server.grpc.connection import GREETING_S, GrpcConnection
from quorate.deployments.server.grpc.feedback import feedback_methods
from quorate.deployments.server.grpc.health import standard_methods
from quorate.deployments.server.grpc.lobby import Lobby
from quorate.deployments.server.grpc.rpcs import inference_methods
from quorate.deployments.server.service import Service

CHECK_S, HANG_UP_S, _POLL_S = 1.0, 0.5, 0.02
_BACKLOG = 2048


class GrpcDoor:
    """Serves one ensemble."""

    def __init__(self, service: Service, keeper: Doorkeeper | None = None):
        """Args:
        keeper: admits calls; everyone on this machine when None.
        """
        methods = inference_methods(service) | feedback_methods(service) | standard_methods(service)
        self._lobby: Lobby[GrpcConnection] = Lobby(service, keeper or Doorkeeper(Doors()), methods)

    async def open(self, sock: socket.socket, certificates: Certificates | None = None) -> None:
        """Take connections from a bound socket."""
        loop = asyncio.get_running_loop()
        tls = None if certificates is None else certificates.grpc
        timeout_s = None if tls is None else GREETING_S
        sock.setblocking(False)
        self._server = await loop.create_server(
            lambda: GrpcConnection(self._lobby, loop),
            sock=sock,
            ssl=tls,
            backlog=_BACKLOG,
            ssl_handshake_timeout=timeout_s,
        )
        self._checking = loop.create_task(self._check())

    async def close(self, grace_s: float) -> None:
        """Take no new connection or call, and give those that are here some time to end."""
        self._server.close()
        for connection in list(self._lobby.connections):
            connection.drain()
        await self._all_left(grace_s)
        for connection in list(self._lobby.connections):
            connection.stop_calls()
        await asyncio.sleep(_POLL_S)
        for connection in list(self._lobby.connections):
            connection.hang_up()
        await self._all_left(HANG_UP_S)
        for connection in list(self._lobby.connections):
            connection.abort()
        await asyncio.sleep(0)
        self._checking.cancel()

    async def _all_left(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while self._lobby.connections and time.monotonic() < until:  # noqa: ASYNC110  closed by this same loop
            await asyncio.sleep(_POLL_S)

    async def _check(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(CHECK_S)
            now = time.monotonic()
            # After a pause of our own, what clients said meanwhile is read before they are judged.
            if now - before < 2 * CHECK_S:
                for connection in list(self._lobby.connections):
                    connection.check(now)
            before = now
