"""Who changes an ensemble now: one at a time, and the next goes on where a holder has died.

The store can do one thing that excludes: put a key only where there is none. Each lease is the next number of its
ensemble, taken that way, and its holder alone writes under it: a beat that goes on, then a mark that it is over. A
waiter takes the next number when it reads that mark, or has watched the beat stand still for ``LEASE_S`` by its own
clock; of several waiters one gets it. No clocks of two machines are compared.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

from quorate.deployments.errors import ConflictError, UnavailableError
from quorate.deployments.records.registry import Store

# A holder whose beat has stood still for this long is dead, or cut off from the store.
LEASE_S = 15.0
WAIT_S = 10.0
# What the cluster does by itself ends soon, well or not: others wait for it longer than for each other.
BY_ITSELF_S = 180.0
_POLL_S = 0.05
# Two looks further apart prove nothing of the time between them: the store may have been away.
_LOOK_S = 2.0


class Lease:
    """A lease that is held. Made by ``hold``.

    Attributes:
        number: larger than that of every earlier lease of the ensemble.
    """

    def __init__(self, store: Store, ensemble: str, number: int, holder: str, by_itself: bool = False):
        self.number = number
        self._store, self._ensemble, self._holder, self._by_itself = store, ensemble, holder, by_itself
        self._since = datetime.now(timezone.utc).strftime("%H:%M:%S UTC")
        self._beat, self._mark = 0, secrets.token_hex(8)
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._keep, name=f"lease of {ensemble}", daemon=True)

    def check(self) -> None:
        """Look before doing what only the holder may do.

        Raises:
            ConflictError: somebody else has taken the lease over.
        """
        if max(_numbers(self._store, self._ensemble), default=0) > self.number:
            raise ConflictError(
                f"'{self._ensemble}' was taken over by another command, since this one had not been heard of for "
                f"{LEASE_S:g} s; look at quorate status, and try again"
            )

    def start(self) -> bool:
        """Take it; False where another was faster."""
        key = _key(self._ensemble, self.number)
        if not self._store.put(key, self._value(), overwrite=False):
            return False
        if max(_numbers(self._store, self._ensemble)) > self.number:  # others have had it, and forgotten it since
            self._store.delete(key)
            return False
        self._beating.start()
        return True

    def end(self) -> None:
        """Let the next one have it."""
        self._over.set()
        self._beating.join()
        with suppress(UnavailableError):  # then it passes on when its beat has stood still
            self._store.put(_key(self._ensemble, self.number), self._value(over=True))

    def _keep(self) -> None:
        while not self._over.wait(LEASE_S / 5):
            self._beat += 1
            with suppress(UnavailableError):
                self._store.put(_key(self._ensemble, self.number), self._value())

    def _value(self, over: bool = False) -> bytes:
        found = {"holder": self._holder, "since": self._since, "mark": self._mark, "beat": self._beat, "over": over}
        return json.dumps({**found, "by_itself": self._by_itself}).encode()


@contextmanager
def hold(store: Store, ensemble: str, what: str, wait_s: float = WAIT_S, by_itself: bool = False) -> Iterator[Lease]:
    """Be the only one who changes an ensemble.

    Args:
        what: is being done, for others who want to.
        wait_s: how long to wait for another holder who is alive; for what a cluster does by itself at least
            ``BY_ITSELF_S``, unless it is 0.
        by_itself: whether this is such: nobody has asked for it, and nobody is to be refused because of it.

    Raises:
        ConflictError: another still holds it; the text names who and what.
        UnavailableError: the store does not answer.
    """
    waiter, began = _Waiter(store, ensemble), time.monotonic()
    while True:
        number = waiter.free_number()
        if number is not None:
            lease = Lease(store, ensemble, number, f"{what} by {_user()} on {socket.gethostname()}", by_itself)
            if lease.start():
                break
        elif time.monotonic() > began + waiter.patience_s(wait_s) and not waiter.dying:
            raise ConflictError(
                f"'{ensemble}' is being changed: {waiter.holder}, since {waiter.since}; wait until that has ended"
            )
        time.sleep(_POLL_S)
    try:
        waiter.forget_before(lease.number)
        yield lease
    finally:
        lease.end()


def _user() -> str:
    """Who runs this process, for others to read; a container may have no name for its user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # KeyError before Python 3.13
        return f"user {os.getuid()}"


class _Waiter:
    """Watches the lease of an ensemble until it is free."""

    def __init__(self, store: Store, ensemble: str):
        self._store, self._ensemble = store, ensemble
        self._seen, self._looked, self._still_s = b"", time.monotonic(), 0.0
        self.holder = self.since = ""
        self._by_itself = False

    def patience_s(self, wait_s: float) -> float:
        """How long to wait for the holder there is, for who would wait ``wait_s`` for an operator."""
        return max(wait_s, BY_ITSELF_S) if wait_s and self._by_itself else wait_s

    @property
    def dying(self) -> bool:
        """Whether the holder has missed beats: it is worth waiting to see whether it is dead."""
        return self._still_s > LEASE_S / 2

    def free_number(self) -> int | None:
        """The number to take; None while another holds the lease."""
        number = max(_numbers(self._store, self._ensemble), default=0)
        stored = self._store.get(_key(self._ensemble, number)) if number else b""
        now = time.monotonic()
        self._still_s = self._still_s + min(now - self._looked, _LOOK_S) if stored == self._seen else 0.0
        self._seen, self._looked = stored, now
        if not stored:
            return number + 1
        found: dict[str, Any] = json.loads(stored)
        self.holder, self.since, self._by_itself = found["holder"], found["since"], found.get("by_itself", False)
        return number + 1 if found["over"] or self._still_s > LEASE_S else None

    def forget_before(self, number: int) -> None:
        """Delete the leases that this one follows."""
        for old in _numbers(self._store, self._ensemble):
            if old < number:
                self._store.delete(_key(self._ensemble, old))


def _numbers(store: Store, ensemble: str) -> list[int]:
    return [int(key.rpartition("/")[2]) for key in store.keys(f"lease/{ensemble}/")]


def _key(ensemble: str, number: int) -> str:
    return f"lease/{ensemble}/{number}"
