"""Lines between nodes: ZeroMQ over TCP; CURVE proves that both ends belong to the cluster (curve.py).

Heartbeats (ZMTP 3.1 PING) end a line whose other node vanished without a word.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from quorate.deployments.transport.connection import FLUSH_S, MAX_UNREAD_MESSAGES, OnFrames, OnLost
from quorate.deployments.transport.messages import Frame

HEARTBEAT_S = 1.0
SILENCE_S = 3.0  # nothing at all heard for so long: the line is lost

_LOST_EVENTS = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_LOST_EVENTS |= zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


def set_heartbeat(socket: zmq.Socket[Any]) -> None:
    """Have both ends of every line of this socket notice within ``SILENCE_S`` that the other is gone."""
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(1e3 * HEARTBEAT_S))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(1e3 * SILENCE_S))
    socket.setsockopt(zmq.HEARTBEAT_TTL, int(1e3 * SILENCE_S))
    socket.setsockopt(zmq.HANDSHAKE_IVL, int(1e3 * SILENCE_S))


@dataclass(frozen=True)
class ClientKeys:
    """The CURVE key pair that fusion replicas prove to members on other nodes."""

    public: str
    secret: str


class RemoteLine:
    """A fusion replica's line to the port of one member replica."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        server_key: str,
        keys: ClientKeys | None,
        on_frames: OnFrames,
        on_lost: OnLost,
    ):
        self._on_frames, self._on_lost = on_frames, on_lost
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        if keys is not None:
            self._socket.curve_publickey = keys.public.encode()
            self._socket.curve_secretkey = keys.secret.encode()
            self._socket.curve_serverkey = server_key.encode()
        self._open(endpoint)

    def _open(self, endpoint: str) -> None:
        socket = self._socket
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, MAX_UNREAD_MESSAGES)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)  # a lost replica is lost: the directory tells of its successor
        set_heartbeat(socket)
        self._monitor = socket.get_monitor_socket(_LOST_EVENTS)
        self._loop.add_reader(self._monitor.FD, self._read_monitor)
        self._loop.add_reader(socket.FD, self._read)
        socket.connect(endpoint)
        # ZeroMQ signals only readers that it has seen go to sleep: without this first look no event would ever wake us.
        self._loop.call_soon(self._read)
        self._loop.call_soon(self._read_monitor)

    def send(self, frames: list[Frame]) -> None:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.Again:  # the replica is gone and its monitor has yet to say so, or it reads nothing any more
            self._loop.call_soon(self._lose)  # not at once: whoever calls must first learn the call's number
            return
        # Sending may swallow the edge that would have woken the reader (zmq_getsockopt(3), ZMQ_FD).
        self._loop.call_soon(self._read)

    def close(self) -> None:
        """Cut it; nobody is called back any more."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.FD)
        self._loop.remove_reader(self._monitor.FD)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def _lose(self) -> None:
        if not self._closed:
            self.close()
            self._on_lost(self)

    def _read(self) -> None:
        while not self._closed and _readable(self._socket):
            self._on_frames(self, list(self._socket.recv_multipart(zmq.NOBLOCK)))

    def _read_monitor(self) -> None:
        while not self._closed and _readable(self._monitor):
            event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            if event["event"] & _LOST_EVENTS:
                self._read()  # answers that arrived before the line broke still count
                self._lose()


def _readable(socket: zmq.Socket[Any]) -> bool:
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


@dataclass(frozen=True)
class _RoutedLine:
    """A member replica's line to one fusion replica, one of many on a ROUTER socket."""

    listener: RemoteListener
    identity: bytes

    def send(self, frames: list[Frame]) -> None:
        self.listener.send(self.identity, frames)


class RemoteListener:
    """The port of a member replica; give it a bound ROUTER socket, which never tells that a line is lost."""

    def __init__(self, socket: zmq.Socket[bytes]):
        self._socket = socket

    async def open(self, on_frames: OnFrames, on_lost: OnLost) -> None:
        self._on_frames = on_frames
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.FD, self._read)
        self._loop.call_soon(self._read)

    def send(self, identity: bytes, frames: list[Frame]) -> None:
        """A message for a replica that is gone, or that reads nothing, is dropped (zmq_socket(3), ROUTER)."""
        self._socket.send_multipart([identity, *frames], zmq.NOBLOCK, copy=False)
        self._loop.call_soon(self._read)

    async def close(self) -> None:
        self._loop.remove_reader(self._socket.FD)
        self._socket.close(linger=int(1e3 * FLUSH_S))

    def _read(self) -> None:
        while not self._socket.closed and _readable(self._socket):
            identity, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            self._on_frames(_RoutedLine(self, identity), list(frames))
