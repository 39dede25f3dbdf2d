"""Lines within one node: Unix stream sockets in a folder that only this user can enter.

ZeroMQ's ``ipc://`` is what design section 5 names; this is faster because no I/O thread has to be woken at either end
(benchmarks/RESULTS.md has the figures), and a dead process is an end of file: no monitor has to tell.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import cast

from quorate.deployments.transport.connection import FLUSH_S, MAX_UNREAD_BYTES, OnFrames, OnLost
from quorate.deployments.transport.framing import StreamCutter, to_stream
from quorate.deployments.transport.messages import Frame, FramingError

BACKLOG = 128


class LocalLine(asyncio.BufferedProtocol):
    """One connected socket; the same at both ends."""

    def __init__(self, on_frames: OnFrames, on_lost: OnLost):
        self._on_frames, self._on_lost = on_frames, on_lost
        self._cutter = StreamCutter()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._early: list[list[Frame]] = []  # until it is connected
        self._closed = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    def connect(cls, path: Path, on_frames: OnFrames, on_lost: OnLost) -> LocalLine:
        """A line that may be used at once; ``on_lost`` is called when nobody listens at ``path``."""
        line = cls(on_frames, on_lost)
        line._connecting = asyncio.get_running_loop().create_task(line._connect(path))
        return line

    async def _connect(self, path: Path) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, str(path))
        except OSError as error:
            self.connection_lost(error)

    def send(self, frames: list[Frame]) -> None:
        if self._transport is None:
            self._early.append(frames)
        elif self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._transport.abort()
        elif not self._transport.is_closing():
            parts = to_stream(frames)
            if len(parts) == 1:
                self._transport.write(parts[0])
            else:
                self._transport.writelines(parts)

    def close(self) -> None:
        """Cut it; nobody is called back any more."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()

    def finish(self) -> None:
        """Send what is unsent, then cut it."""
        self._closed = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._closed:
            self._transport.abort()
        early, self._early = self._early, []
        for frames in early:
            self.send(frames)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._cutter.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for frames in self._cutter.filled(nbytes):
                if not self._closed:
                    self._on_frames(self, frames)
        except FramingError:
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        if not self._closed:
            self._closed = True
            self._on_lost(self)


class LocalListener:
    """The socket file of a member replica."""

    def __init__(self, path: Path):
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(BACKLOG)
        self._lines: set[LocalLine] = set()

    async def open(self, on_frames: OnFrames, on_lost: OnLost) -> None:
        def accept() -> LocalLine:
            line = LocalLine(on_frames, on_lost)
            self._lines.add(line)
            line.ended.add_done_callback(lambda _: self._lines.discard(line))
            return line

        self._server = await asyncio.get_running_loop().create_unix_server(accept, sock=self._socket)

    async def close(self) -> None:
        self._server.close()
        for line in self._lines:
            line.finish()
        if self._lines:
            await asyncio.wait([line.ended for line in self._lines], timeout=FLUSH_S)
        for line in list(self._lines):
            line.close()
        self._path.unlink(missing_ok=True)
