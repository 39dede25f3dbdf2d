"""gRPC's messages in a stream of bytes: each has a byte that says whether it is packed, and four with its length."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from quorate.deployments.errors import BodySizeError, RequestError
from quorate.deployments.memory_budget import MemoryHold

_PREFIX = struct.Struct(">BI")
# What a message takes beside its own bytes while it waits to be read.
OBJECT_BYTES = 256
# A message is kept in the pieces in which it came; a piece of one byte takes thirty as an object of its own.
MAX_PIECES = 1024


def prefix_of(message: bytes) -> bytes:
    """What goes over the wire before a message that is not packed."""
    return _PREFIX.pack(0, len(message))


class MessageReader:
    """Cuts what comes in into messages, and keeps those that nobody has read yet.

    Attributes:
        count: of the messages that have come so far.
        partial: whether a message has begun that is not here whole.
    """

    __slots__ = ("_held_bytes", "_hold", "_limit_bytes", "_needed", "_pieces", "_waiting", "count")

    def __init__(self, hold: MemoryHold, limit_bytes: Callable[[int], int]):
        """Args:
        hold: counts what is kept here.
        limit_bytes: the most that a message may take; it is told how many bytes there are of the one that asks.
        """
        self._hold, self._limit_bytes = hold, limit_bytes
        self._pieces: list[bytes] = []  # of what has come and is in no message yet
        self._held_bytes = 0  # of them together
        self._needed = 0  # of the next message with its prefix, once that is here
        self._waiting: deque[tuple[bool, bytes]] = deque()
        self.count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def partial(self) -> bool:
        return self._held_bytes > 0

    def feed(self, data: bytes) -> None:
        """Take in what came.

        Raises:
            OverloadedError: there is no room for it.
            BodySizeError: a message is longer than any may be.
            RequestError: this is no message.
        """
        if not data:
            return
        self._hold.add(len(data))
        self._pieces.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= max(self._needed, _PREFIX.size):
            self._cut()
        elif len(self._pieces) > MAX_PIECES:
            self._pieces = [b"".join(self._pieces)]

    def pop(self) -> tuple[bool, bytes]:
        """The oldest message, and whether it is packed. Its bytes stay counted until ``release``."""
        return self._waiting.popleft()

    def release(self, message: bytes) -> None:
        """Count a message no more."""
        self._hold.give_back(len(message) + _PREFIX.size + OBJECT_BYTES)

    def _cut(self) -> None:
        """Make messages of the pieces as far as they go."""
        while self._held_bytes >= max(self._needed, _PREFIX.size):
            if not self._needed:
                self._needed = self._message_bytes() + _PREFIX.size
                continue
            self._hold.add(OBJECT_BYTES)
            self._waiting.append(self._take())
            self.count += 1

    def _take(self) -> tuple[bool, bytes]:
        """The first message, copied once, and whether it is packed."""
        first, last = memoryview(self._pieces[0]), memoryview(self._pieces[-1])
        rest = self._held_bytes - self._needed
        if len(self._pieces) == 1:
            message = bytes(first[_PREFIX.size : self._needed])
        else:
            end = last[: len(last) - rest]
            message = b"".join([first[_PREFIX.size :], *self._pieces[1:-1], end])
        self._pieces = [bytes(last[len(last) - rest :])] if rest else []
        self._held_bytes, self._needed = rest, 0
        return bool(first[0]), message

    def _message_bytes(self) -> int:
        packed: int
        size: int
        if len(self._pieces[0]) < _PREFIX.size:
            self._pieces = [b"".join(self._pieces)]
        packed, size = _PREFIX.unpack_from(self._pieces[0])
        if packed > 1:
            raise RequestError(f"a message begins with the byte {packed}; send gRPC's 0, or 1 for a packed one")
        limit = self._limit_bytes(size)
        if size > limit:
            raise BodySizeError("is", limit)
        return size
