"""Files by content on one node: written whole, verified, linked to where they are used, evicted when they are not."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from quorate.deployments.errors import DamagedContentError, UnavailableError

PIECE_BYTES = 4 << 20
# A sender whose own copy does not grow for so long has lost the one that it has it from.
STALL_S = 60.0
_POLL_S = 0.02

# Given how many bytes are there already, the rest, in pieces.
Pieces = Callable[[int], Iterable[bytes | memoryview]]


class ContentCache:
    """One folder. What is linked to from elsewhere is in use, and is never evicted.

    Args:
        root: of all that is kept on this node, on one file system.
        limit_bytes: what may stay; None for half of what the disk has for it.
    """

    def __init__(self, root: Path, limit_bytes: int | None = None):
        self._contents, self._partials = root / "content", root / "receiving"
        self._limit_bytes = limit_bytes

    def path(self, digest: str) -> Path:
        """Where the content of a digest is, if it is there."""
        return self._contents / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """Whether the content is there, whole."""
        return self.path(digest).is_file()

    def received_bytes(self, digest: str) -> int:
        """How much of a content an interrupted ``add`` has left, and the next one need not ask for."""
        try:
            return self._partial(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def add(self, digest: str, size_bytes: int, pieces: Pieces) -> None:
        """Have the content there; where another process is receiving it, wait for that one.

        Args:
            pieces: asked for what is missing; after an interruption a second call goes on where the first has ended.

        Raises:
            DamagedContentError: what came is not of this digest.
        """
        with self._alone(digest):
            if self.has(digest):
                return
            self._make_room(size_bytes)
            partial = self._partial(digest)
            received = hashlib.sha256()
            with partial.open("a+b") as file:
                file.seek(0)
                while piece := file.read(PIECE_BYTES):
                    received.update(piece)
                for more in pieces(file.tell()):
                    received.update(more)
                    file.write(more)
                    file.flush()  # others read it while it grows
                os.fsync(file.fileno())
            if f"sha256:{received.hexdigest()}" != digest:
                partial.unlink()
                raise DamagedContentError(digest)
            self._contents.mkdir(parents=True, exist_ok=True)
            partial.replace(self.path(digest))

    def add_file(self, source: Path, digest: str) -> None:
        """Have the content of a file there; raises as ``add`` does."""
        if not self.has(digest):
            self._partial(digest).unlink(missing_ok=True)  # cheaper to read again than to hash
            self.add(digest, source.stat().st_size, lambda _: read_pieces(source, 0))

    def link(self, digest: str, target: Path) -> bool:
        """Link to the content unless something is at the target already; whether it was there to be linked to."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()  # to the folder that somebody deployed from
        try:
            os.link(self.path(digest), target)
        except FileExistsError:
            return True
        except FileNotFoundError:
            return False
        return True

    def read(self, digest: str, size_bytes: int, start: int, wait_s: float = 0.0) -> Iterator[bytes]:
        """The content from a byte on, in pieces, also while it is still being received.

        Args:
            wait_s: how long it may take until there is anything of it.

        Raises:
            FileNotFoundError: nothing of it is there.
            UnavailableError: it stopped growing.
        """
        until = time.monotonic() + wait_s
        while (found := self._found(digest)) is None:
            if time.monotonic() >= until:
                raise FileNotFoundError(digest)
            time.sleep(_POLL_S)
        grown = time.monotonic()
        with found.open("rb") as file:
            file.seek(start)
            while start < size_bytes:
                piece = file.read(PIECE_BYTES)
                start += len(piece)
                if piece:
                    grown = time.monotonic()
                    yield piece
                elif time.monotonic() - grown > STALL_S:
                    raise UnavailableError(f"{digest} stopped arriving at byte {start} of {size_bytes}; deploy again")
                else:
                    time.sleep(_POLL_S)

    def forget(self, digest: str) -> None:
        """Have it fetched anew: what is there is damaged."""
        self.path(digest).unlink(missing_ok=True)

    def evict(self) -> None:
        """Delete what is not in use until the rest is within the limit, what was used last at the end."""
        self._make_room(0)

    @property
    def size_bytes(self) -> int:
        """Of all contents."""
        return sum(found.st_size for _, found in self._entries())

    def _found(self, digest: str) -> Path | None:
        places = (self.path(digest), self._partial(digest), self.path(digest))
        return next((place for place in places if place.is_file()), None)

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self._contents.glob("*"):
            with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
                found.append((path, path.stat()))
        return found

    def _make_room(self, more_bytes: int) -> None:
        self._sweep()
        entries = self._entries()
        held = sum(found.st_size for _, found in entries)
        limit = self._limit_bytes
        if limit is None:
            limit = (_free_bytes(self._contents) + held) // 2
        unused = [(path, found) for path, found in entries if found.st_nlink == 1]
        for path, found in sorted(unused, key=lambda entry: entry[1].st_ctime):  # a link that comes or goes changes it
            if held + more_bytes <= limit:
                return
            path.unlink(missing_ok=True)
            held -= found.st_size

    def _sweep(self) -> None:
        """Delete what processes that died have received in part, and nobody receives now."""
        for lock in self._partials.glob("*.lock"):
            partial = lock.with_suffix(".part")
            if partial.exists() and time.time() - partial.stat().st_mtime > STALL_S:
                with contextlib.suppress(OSError), lock.open("w") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    partial.unlink(missing_ok=True)

    def _partial(self, digest: str) -> Path:
        return self._partials / f"{digest.removeprefix('sha256:')}.part"

    @contextlib.contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        self._partials.mkdir(parents=True, exist_ok=True)
        lock = self._partial(digest).with_suffix(".lock")
        while True:
            with lock.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _is(file.fileno(), lock):
                    continue  # the one that held it has deleted it
                try:
                    yield
                finally:
                    if not self._partial(digest).exists():
                        lock.unlink(missing_ok=True)
                return


def read_pieces(path: Path, start: int) -> Iterator[bytes]:
    """A file's bytes from one on."""
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(PIECE_BYTES):
            yield piece


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
