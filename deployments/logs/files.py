"""Files of what members write, one a replica, below the state folder of the node that it runs on."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quorate.deployments.logs.entries import written_since
from quorate.deployments.logs.lines import LogLevel, Writer, wanted, written
from quorate.deployments.state_folder import state_folder
from quorate.deployments.telemetry.settings import LogSettings

# A file that is full becomes the older one, and that goes: a replica keeps twice as much at most.
MAX_BYTES = 1 << 20
KEPT_S = 24 * 3600.0
# In place of an ensemble's name, for members that run once for several; none has such a name.
SHARED = "@shared"
_TOUCH_S = 600.0


@dataclass(frozen=True)
class ReplicaLog:
    """What one replica of a member has written.

    Attributes:
        ensemble: whose member it is; ``SHARED`` for one that runs once for several.
        written_at: when it last wrote, in seconds since 1970.
        node: the address of the node that it ran on.
    """

    ensemble: str
    member: str
    replica: str
    text: str
    written_at: float
    node: str = ""


class LogFile:
    """A replica's log, written line by line; where the disk takes no more, lines are lost and nothing else.

    Attributes:
        settings: what is written, and how.
        path: of the file; None where there can be none.
    """

    def __init__(self, ensemble: str, member: str, replica: str, node: str = ""):
        self.settings, self._writer = LogSettings(), Writer(ensemble, member, replica, node)
        self.path: Path | None = None
        self._lock, self._touched = threading.Lock(), time.monotonic()
        with contextlib.suppress(OSError):
            forget_old()
            folder = state_folder() / "logs" / ensemble / member
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path = folder / f"{replica}@{node}.log"

    def use(self, settings: LogSettings) -> None:
        """Write so from now on."""
        self.settings = settings

    def write(self, text: str, level: LogLevel = "info") -> None:
        """Append lines, the first with the time and for whom it is, where that is known."""
        if self.path is None or not wanted(self.settings, level):
            return
        line = written(text.rstrip(), level, self.settings.format, self._writer)
        data = f"{line}\n".encode(errors="replace")[-MAX_BYTES:]
        with self._lock, contextlib.suppress(OSError):
            if self.path.exists() and self.path.stat().st_size + len(data) > MAX_BYTES:
                self.path.replace(older_of(self.path))
            with os.fdopen(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab") as file:
                file.write(data)

    def touch(self) -> None:
        """Say that its replica lives: what nobody has written to for a day is forgotten."""
        if self.path is not None and time.monotonic() - self._touched > _TOUCH_S:
            self._touched = time.monotonic()
            with contextlib.suppress(OSError):
                self.path.touch(0o600)


def read_logs(ensembles: tuple[str, ...], member: str | None = None, since_s: float | None = None) -> list[ReplicaLog]:
    """What is kept on this node of the members of ensembles, or of one member; the one that wrote last at the end.

    Args:
        since_s: only entries of the last so many seconds, by this node's clock, and replicas that have some.
    """
    found = []
    for path in log_files(ensembles, member):
        with contextlib.suppress(OSError):  # it went meanwhile
            older = older_of(path)
            text = (_text(older) if older.exists() else "") + _text(path)
            text = text if since_s is None else written_since(text, time.time() - since_s)
            if text or since_s is None:
                found.append(replica_log(path, text))
    return sorted(found, key=lambda log: log.written_at)


def log_files(ensembles: tuple[str, ...], member: str | None) -> list[Path]:
    """Of the members of ensembles, or of one member."""
    return [path for path in _files() if path.parts[-3] in ensembles and member in (None, path.parts[-2])]


def older_of(path: Path) -> Path:
    """Where what a file was full of is put aside."""
    return path.with_suffix(".log.1")


def sign_of(path: Path) -> Path:
    """Where its process says that it lives, see ``lives``."""
    return path.with_suffix(".alive")


def replica_log(path: Path, text: str) -> ReplicaLog:
    """Of a replica's file what its place says, and this text."""
    replica, _, node = path.stem.partition("@")
    return ReplicaLog(path.parts[-3], path.parts[-2], replica, text, path.stat().st_mtime, node)


def kept_members() -> list[tuple[str, str]]:
    """Ensembles and members of which there are logs on this node."""
    return sorted({(path.parts[-3], path.parts[-2]) for path in _files()})


def forget_old() -> None:
    """Remove what nobody has written to for a day."""
    until = time.time() - KEPT_S
    for path in _files():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < until:
                older_of(path).unlink(missing_ok=True)
                sign_of(path).unlink(missing_ok=True)
                path.unlink()
                path.parent.rmdir()  # where it was the last
                path.parent.parent.rmdir()


def _files() -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from sorted((state_folder() / "logs").glob("*/*/*.log"))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
