"""What carries messages between a fusion replica and a member replica, be they on one node or on two.

Both ends live on an event loop. Within a node a line is a Unix socket (local_lines.py), between nodes it is ZeroMQ with
CURVE (remote_lines.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from quorate.deployments.transport.messages import Frame

# One that leaves this much unread has stopped: the line is cut instead of growing without bound.
MAX_UNREAD_BYTES = 128 << 20
MAX_UNREAD_MESSAGES = 1000
# What is unsent when a member replica closes its lines may take this long yet.
FLUSH_S = 0.5


class Line(Protocol):
    """A connection to one replica; two objects for the same connection are equal."""

    def send(self, frames: list[Frame]) -> None:
        """Send a message, in order, without waiting. A line that cannot takes no more and is lost soon."""


OnFrames = Callable[[Line, list[Frame]], None]
OnLost = Callable[[Line], None]


class Listener(Protocol):
    """Where a member replica takes lines from fusion replicas; bound when made, silent until ``open``."""

    async def open(self, on_frames: OnFrames, on_lost: OnLost) -> None:
        """Begin to take lines and messages on the running event loop; ``on_lost`` is called where a loss is seen."""

    async def close(self) -> None:
        """Send what is unsent, for ``FLUSH_S`` at most, and cut all lines."""
