"""Connections within one node: Unix stream sockets in a folder that only this user can enter.

Faster than TCP, and a dead process is an end of file: nothing has to watch for it. What a killed one leaves behind is
its socket file; whoever finds nobody listening there removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from quorate.deployments.transport.connection import BACKLOG, Connection, Listener, OnFrames, OnLost

# A socket file has this before its name until somebody listens there: nobody may take it for a dead one.
_NOT_YET = "."


def connect_unix(path: Path, on_frames: OnFrames, on_lost: OnLost) -> Connection:
    """A connection that may be used at once; ``on_lost`` is called when nobody listens at ``path``."""

    def lost(connection: Connection) -> None:
        remove_if_dead(path)
        on_lost(connection)

    connection = Connection(on_frames, lost)
    connection.connect(partial(asyncio.get_running_loop().create_unix_connection, lambda: connection, str(path)))
    return connection


def remove_if_dead(path: Path) -> bool:
    """Remove a socket file at which nobody listens; whether there was one."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.setblocking(False)  # a listener that is busy is not dead
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return True
        except OSError:
            return False
    return False


def remove_dead_sockets(folder: Path) -> None:
    """Remove what processes that were killed have left in a folder, where nobody was connected to them."""
    for path in folder.iterdir():
        if path.is_socket() and not path.name.startswith(_NOT_YET):
            remove_if_dead(path)


class UnixListener(Listener):
    """The socket file of a member replica."""

    def __init__(self, path: Path):
        super().__init__(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self._path = path
        unfinished = path.with_name(_NOT_YET + path.name)
        self._listening.bind(str(unfinished))
        unfinished.chmod(0o600)
        self._listening.listen(BACKLOG)
        unfinished.rename(path)

    async def close(self) -> None:
        await super().close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, accept: Callable[[], Connection]) -> asyncio.AbstractServer:
        return await asyncio.get_running_loop().create_unix_server(accept, sock=self._listening)
