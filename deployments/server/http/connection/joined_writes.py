"""A transport that sends in one piece what was written in several."""

from __future__ import annotations

import asyncio
from typing import Any

from quorate.deployments.server.connection_limits import UNREAD_S


class JoinedWrites:
    """A transport that sends together what was written until ``flush``, or until the event loop's turn ends."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        self._transport, self._loop = transport, loop
        self.is_closing = transport.is_closing
        self._held: list[bytes] = []
        self._turn_end: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        if self._turn_end is None:
            self._turn_end = self._loop.call_soon(self.flush)
        self._held.append(data)

    def write_now(self, data: bytes) -> None:
        """Send this too, and wait for nothing more."""
        if self._held:
            self._held.append(data)
            self.flush()
        elif not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(UNREAD_S, self._transport.abort)

    def flush(self) -> None:
        if self._turn_end is not None:
            self._turn_end.cancel()
            self._turn_end = None
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.writelines(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
