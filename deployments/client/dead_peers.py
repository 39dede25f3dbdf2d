"""Socket options by which a machine that died without a word is noticed: TCP itself waits a quarter of an hour."""

from __future__ import annotations

import socket

# Nothing acknowledged for so long, neither what was sent nor the checks of a silent connection, and it is lost.
DEAD_AFTER_S = 4
# By their names, since not every system has them all.
_TCP = {"TCP_USER_TIMEOUT": DEAD_AFTER_S * 1000, "TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2}

SOCKET_OPTIONS: tuple[tuple[int, int, int], ...] = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in _TCP.items() if hasattr(socket, name)),
)
