"""A connection between a fusion replica and a member replica: one protocol, over a Unix socket and over TCP with TLS.

Both ends live on an event loop. How to connect and to listen is in ``unix`` (on one node) and ``tcp`` (between nodes).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from quorate.deployments.transport.framing import StreamCutter, to_stream
from quorate.deployments.transport.messages import Frame, FramingError
from quorate.deployments.transport.tls import PIECE_BYTES, TlsSession

# One that leaves this much unread has stopped: the connection is cut instead of growing without bound. One message more
# may stand before it, of any size: who sends no more until ``room`` is called is never cut, however slow the reader.
MAX_UNREAD_BYTES = 128 << 20
# What is unsent when a member replica closes its connections may take this long yet.
FLUSH_S = 0.5
BACKLOG = 128
# The event loop holds this much for the socket; what is beyond waits here, unencrypted and uncopied.
_WRITE_AHEAD_BYTES = 1 << 18

OnFrames = Callable[["Connection", list[Frame]], None]
OnLost = Callable[["Connection"], None]


class Connection(asyncio.BufferedProtocol):
    """One connected socket; the same at both ends.

    Args:
        on_frames: called with each message.
        on_lost: called once when the connection is lost or could not be made, not when it was closed here.
        tls: proves and encrypts; None within a node, where the kernel keeps other users out.

    Attributes:
        ended: done when the socket is closed.
        unsent_bytes: that the socket has not taken yet.
        room: called whenever it has taken some of them.
    """

    def __init__(self, on_frames: OnFrames, on_lost: OnLost, tls: TlsSession | None = None):
        self._on_frames, self._on_lost, self._tls = on_frames, on_lost, tls
        self._cutter = StreamCutter()
        if tls is None:
            self.get_buffer = self._cutter.buffer  # type: ignore[method-assign]
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: deque[Frame] = deque()
        self.unsent_bytes = 0
        self._largest_unsent = 0  # of the messages since nothing was unsent
        self.room: Callable[[], None] = _ignore
        self._writable = False  # connected, proved, and the socket takes more
        self._closed = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def allow(self, nbytes: int) -> None:
        """Take no message that is longer: the connection is cut before memory is taken for it."""
        self._cutter.max_message_bytes = nbytes

    @property
    def established(self) -> bool:
        """Whether the other end has proved who it is."""
        return self._transport is not None and (self._tls is None or self._tls.established)

    def connect(self, connect: Callable[[], Awaitable[object]]) -> None:
        """Have ``connect`` join this protocol to a socket; messages may be sent at once."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect(connect))

    async def _connect(self, connect: Callable[[], Awaitable[object]]) -> None:
        try:
            await connect()
        except (OSError, asyncio.TimeoutError):
            self.abort()

    def send(self, frames: list[Frame]) -> None:
        """Send a message, in order, without waiting. A connection that cannot takes no more and is lost soon."""
        if not self._closed:
            self._put(to_stream(frames))

    def send_stream(self, message: bytes) -> None:
        """The same of a message that is one run of bytes already."""
        if self._writable and not self._closed:
            self._write(message)
        elif not self._closed:
            self._put([message])

    def _put(self, parts: list[Frame]) -> None:
        if self._writable and len(parts) == 1:
            self._write(parts[0])
            return
        if self.unsent_bytes - self._largest_unsent > MAX_UNREAD_BYTES:
            self.abort()
            return
        self._unsent.extend(parts)
        size = sum(map(len, parts))
        self.unsent_bytes += size
        self._largest_unsent = max(self._largest_unsent, size)
        self._flush()

    def abort(self) -> None:
        """Cut it; ``on_lost`` is called soon."""
        self._writable = False
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()
        else:
            asyncio.get_running_loop().call_soon(self.connection_lost, None)

    def close(self) -> None:
        """Cut it; nobody is called back any more."""
        self._closed = True
        self._drop_unsent()
        self.abort()

    def finish(self) -> None:
        """Send what is unsent, then cut it."""
        self._closed = True
        if self.established:
            self._flush()
        else:
            self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._tls is None:
            self._write = self._transport.write  # type: ignore[method-assign, assignment]
        self._transport.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)
        if self._closed:
            self._transport.abort()
        elif self._tls is None:
            self.resume_writing()
        else:
            self._shake_hands(self._tls)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        if self.established:
            self._writable = True
            self._flush()
            self.room()

    def get_buffer(self, sizehint: int) -> memoryview:
        assert self._tls is not None
        return self._tls.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            if self._tls is None:
                for frames in self._cutter.filled(nbytes):
                    if not self._closed:
                        self._on_frames(self, frames)
            else:
                self._decrypt(self._tls, nbytes)
        except (FramingError, ssl.SSLError):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable = False
        self._drop_unsent()
        if not self.ended.done():
            self.ended.set_result(None)
        if not self._closed:
            self._closed = True
            self._on_lost(self)

    def _shake_hands(self, tls: TlsSession) -> None:
        reply = tls.handshake()
        if reply:
            cast(asyncio.Transport, self._transport).write(reply)
        if tls.established:
            self.resume_writing()

    def _decrypt(self, tls: TlsSession, nbytes: int) -> None:
        tls.received(nbytes)
        if not tls.established:
            self._shake_hands(tls)
        if tls.established:
            while size := tls.decrypt(self._cutter.buffer()):
                self._deliver(size)

    def _deliver(self, nbytes: int) -> None:
        for frames in self._cutter.filled(nbytes):
            if not self._closed:
                self._on_frames(self, frames)

    def _flush(self) -> None:
        """Write what is unsent for as long as the socket takes it; after ``finish``, cut the connection behind it."""
        while self._writable and self._unsent:
            part = self._unsent.popleft()
            if len(part) > PIECE_BYTES and self._tls is not None:
                self._unsent.appendleft(memoryview(part)[PIECE_BYTES:])
                part = memoryview(part)[:PIECE_BYTES]
            self.unsent_bytes -= len(part)
            self._write(part)
        if not self._unsent:
            self._largest_unsent = 0
        if self._closed and not self._unsent:
            cast(asyncio.Transport, self._transport).close()

    def _write(self, part: Frame) -> None:
        assert self._transport is not None
        assert self._tls is not None
        self._transport.write(self._tls.encrypt(part))

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self.unsent_bytes = self._largest_unsent = 0


def _ignore() -> None:
    """Nobody wants to know of room."""


class Listener(ABC):
    """Where a member replica takes connections from fusion replicas; bound when made, silent until ``open``."""

    def __init__(self, listening: socket.socket):
        self._listening = listening
        self._connections: dict[Connection, None] = {}  # in the order of their arrival

    async def open(self, on_frames: OnFrames, on_lost: OnLost) -> None:
        """Begin to take connections and messages on the running event loop."""

        def accept() -> Connection:
            connection = self._accept(on_frames, on_lost)
            self._connections[connection] = None
            connection.ended.add_done_callback(lambda _: self._connections.pop(connection, None))
            return connection

        self._server = await self._serve(accept)

    async def close(self) -> None:
        """Send what is unsent, for ``FLUSH_S`` at most, and cut all connections."""
        self._server.close()
        for connection in list(self._connections):
            connection.finish()
        if self._connections:
            await asyncio.wait([connection.ended for connection in self._connections], timeout=FLUSH_S)
        for connection in list(self._connections):
            connection.close()

    def _accept(self, on_frames: OnFrames, on_lost: OnLost) -> Connection:
        return Connection(on_frames, on_lost)

    @abstractmethod
    async def _serve(self, accept: Callable[[], Connection]) -> asyncio.AbstractServer:
        """Have the event loop accept on the socket."""
