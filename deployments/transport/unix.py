"""Connections within one node: Unix stream sockets in a folder that only this user can enter.

Faster than TCP, and a dead process is an end of file: nothing has to watch for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from quorate.deployments.transport.connection import BACKLOG, Connection, Listener, OnFrames, OnLost


def connect_unix(path: Path, on_frames: OnFrames, on_lost: OnLost) -> Connection:
    """A connection that may be used at once; ``on_lost`` is called when nobody listens at ``path``."""
    connection = Connection(on_frames, on_lost)
    connection.connect(partial(asyncio.get_running_loop().create_unix_connection, lambda: connection, str(path)))
    return connection


class UnixListener(Listener):
    """The socket file of a member replica."""

    def __init__(self, path: Path):
        super().__init__(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self._path = path
        self._listening.bind(str(path))
        self._listening.listen(BACKLOG)

    async def close(self) -> None:
        await super().close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, accept: Callable[[], Connection]) -> asyncio.AbstractServer:
        return await asyncio.get_running_loop().create_unix_server(accept, sock=self._listening)
