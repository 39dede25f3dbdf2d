"""Two nodes on this machine: network namespaces that a virtual cable joins. Linux and root only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator

NEAR, FAR = "10.199.0.1", "10.199.0.2"  # inside the namespaces: nobody else sees them
_CLONE_NEWNET = 0x40000000


class TwoNodes:
    """Both exist while the context is open; ``near`` has the address ``NEAR``, ``far`` has ``FAR``.

    Raises:
        OSError, subprocess.CalledProcessError: they cannot be made here.
    """

    def __init__(self) -> None:
        token = secrets.token_hex(3)
        self.near, self.far = f"qn{token}", f"qf{token}"

    def __enter__(self) -> TwoNodes:
        with contextlib.ExitStack() as stack:
            for name in (self.near, self.far):
                _ip("netns", "add", name)
                stack.callback(_ip, "netns", "del", name)
            _ip("-n", self.near, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", self.far)
            for name, address in ((self.near, NEAR), (self.far, FAR)):
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
                _ip("-n", name, "link", "set", "cable", "up")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cut(self) -> None:
        """Take the far node away: what is sent to it gets lost, and nothing says so."""
        _ip("-n", self.far, "link", "set", "cable", "down")

    def join(self) -> None:
        _ip("-n", self.far, "link", "set", "cable", "up")

    @contextlib.contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Sockets that this thread makes meanwhile belong to a node, and stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            with open(f"/run/netns/{name}") as there:
                _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns failed")
