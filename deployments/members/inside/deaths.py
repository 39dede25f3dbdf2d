"""Which member computed when a fusion replica ended that ran it inside: after two such ends it is run there no more.

A row may kill the process that runs it, and is sent again; what ``routing.quarantine`` knows of that ends with a fusion
replica. Each process has a file here, mapped into its memory: a store of one byte says who computes. Whoever starts
after it reads what it was at.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

from quorate.deployments.state_folder import state_folder

DEATHS_TO_KEEP_OUT = 2
# How long a death counts.
COUNTS_S = 300.0
_NOBODY = 0
_RUNNING, _DEATHS = ".running", "deaths"


class InsideDeaths:
    """Of the members of one application, on one node.

    Attributes:
        kept_out: places of the members that are not to be run here.
    """

    def __init__(self, app: str, members: int, root: Path | None = None):
        """Args:
        members: how many there are, fewer than 255.
        root: where files are; below the state folder when None.
        """
        self._folder = (root or state_folder() / "inside") / app
        self._running: mmap.mmap | bytearray = bytearray(1)
        self.kept_out: set[int] = set()
        with contextlib.suppress(OSError):  # as of a disk that takes no more: then nothing is known
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._alone():
                self._read_dead()
                counted = [place for at, place in self._deaths() if 0 <= time.monotonic() - at < COUNTS_S]
                self._open()
            self.kept_out = {place for place in range(members) if counted.count(place) >= DEATHS_TO_KEEP_OUT}

    def _open(self) -> None:
        self._path = self._folder / f"{os.getpid()}-{time.monotonic_ns()}{_RUNNING}"
        self._file = self._path.open("w+b")
        self._file.write(bytes([_NOBODY]))
        self._file.flush()
        fcntl.flock(self._file, fcntl.LOCK_EX)  # as long as this process lives
        self._running = mmap.mmap(self._file.fileno(), 1)

    def run(self, place: int) -> None:
        """This member computes from now on; none for -1."""
        self._running[0] = place + 1

    def close(self) -> None:
        """This process runs the application no more."""
        if isinstance(self._running, mmap.mmap):
            self._path.unlink(missing_ok=True)
            self._file.close()

    def _read_dead(self) -> None:
        """Count what processes that are gone were at."""
        for path in self._folder.glob(f"*{_RUNNING}"):
            with path.open("rb") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = file.read(1)
                if found and found[0] != _NOBODY:
                    with (self._folder / _DEATHS).open("a") as deaths:
                        deaths.write(f"{time.monotonic()} {found[0] - 1}\n")
                path.unlink()

    def _deaths(self) -> Iterator[tuple[float, int]]:
        path = self._folder / _DEATHS
        for line in path.read_text().splitlines() if path.exists() else ():
            at, place = line.split()
            yield float(at), int(place)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
