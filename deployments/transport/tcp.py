"""Connections between nodes: TCP, on which both ends prove with TLS that they belong to the cluster (keys.py).

A node that vanishes sends no end of file, so its silence has to be noticed. That cannot be asked of the process there:
a model may hold its interpreter for many seconds, and is no less alive. It is asked of the kernel, which acknowledges
data and probes whatever the process does: when idle, a keep-alive probe goes out every second; otherwise what is in
flight is the probe. ``TCP_USER_TIMEOUT`` is no use: it also cuts a living peer whose process has not read for so long
that its receive window is full. So both ends look into ``TCP_INFO``; the kernel's own keep-alive limit stands behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
import struct
from collections.abc import Callable

from quorate.deployments.time_limit import within
from quorate.deployments.transport.connection import BACKLOG, Connection, Listener, OnFrames, OnLost
from quorate.deployments.transport.tls import TlsSession

SILENCE_S = 3.0  # no acknowledgement for so long: the connection is lost
HANDSHAKE_S = 3.0  # for a peer to prove itself, not counting time in which our own event loop was busy
CONNECT_S = 3.0
MAX_UNPROVED = 128  # connections at one port whose peers have not proved themselves; beyond, the oldest is cut

_TICK_S = 0.5
# Two looks in turn must find it silent: one may fall between a probe and its answer.
_SUSPECT_S = SILENCE_S - 2 * _TICK_S - 0.1
_KEEP_ALIVE = {socket.TCP_KEEPIDLE: 1, socket.TCP_KEEPINTVL: 1, socket.TCP_KEEPCNT: 2}
# Linux 6.15: probes of a full peer, too, come once a second. Before that their distance doubles, so that one that has
# not read for a while and then vanishes is noticed when it has been silent for as long again.
_TCP_RTO_MAX_MS, _PROBE_MS = 44, 1000
# struct tcp_info of linux/tcp.h up to tcpi_last_ack_recv
_INFO = struct.Struct("=8B13I")
_PROBES, _UNACKNOWLEDGED, _LAST_DATA, _LAST_ACKNOWLEDGEMENT = 3, 12, 19, 20


def connect_tcp(host: str, port: int, context: ssl.SSLContext, on_frames: OnFrames, on_lost: OnLost) -> Connection:
    """A connection that may be used at once; ``on_lost`` is called when it cannot be made."""
    connection = _TcpConnection(on_frames, on_lost, TlsSession(context, server_side=False))
    connection.handshake_s = math.inf  # a model may keep the other end from its event loop for longer than HANDSHAKE_S

    async def connect() -> None:
        await within(CONNECT_S, asyncio.get_running_loop().create_connection(lambda: connection, host, port))

    connection.connect(connect)
    return connection


class TcpListener(Listener):
    """A port of a member replica.

    Attributes:
        port: the number of it.
    """

    def __init__(self, host: str, context: ssl.SSLContext):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__(socket.create_server((host, 0), family=family, backlog=BACKLOG))
        self._context = context
        self.port: int = self._listening.getsockname()[1]

    def _accept(self, on_frames: OnFrames, on_lost: OnLost) -> Connection:
        unproved = [connection for connection in self._connections if not connection.established]
        if len(unproved) >= MAX_UNPROVED:
            unproved[0].close()
        return _TcpConnection(on_frames, on_lost, TlsSession(self._context, server_side=True))

    async def _serve(self, accept: Callable[[], Connection]) -> asyncio.AbstractServer:
        return await asyncio.get_running_loop().create_server(accept, sock=self._listening)


class _TcpConnection(Connection):
    """Cut when the peer does not prove itself, or its node has vanished."""

    handshake_s = HANDSHAKE_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE.items():
            self._socket.setsockopt(socket.IPPROTO_TCP, option, value)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, _PROBE_MS)
        self._ticks = 0
        self._suspected = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_TICK_S, self._tick)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _tick(self) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        # Ticks are counted, not seconds: a batch of 5 s is one tick, and what has arrived meanwhile is read after it.
        self._ticks += 1
        suspected, self._suspected = self._suspected, _silent(self._socket)
        unproved = not self.established and self._ticks * _TICK_S >= self.handshake_s
        if unproved or (suspected and self._suspected):
            self.abort()
        else:
            self._timer = self._loop.call_later(_TICK_S, self._tick)


def _silent(sock: socket.socket) -> bool:
    """Whether something waits for an acknowledgement, and none has come for long."""
    info = _INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
    heard_ms: int = min(info[_LAST_DATA], info[_LAST_ACKNOWLEDGEMENT])
    return bool(info[_PROBES] or info[_UNACKNOWLEDGED]) and heard_ms >= 1e3 * _SUSPECT_S
