"""Replicas that ended without a word, and what is known of why: others write it into their logs.

A sign of life lies beside a replica's log, locked by its process as long as that lives, and is taken away by it when it
ends as it should. Who finds one that nobody holds says so: of what its kernel kills for memory Linux keeps a count, and
tells the killed nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from quorate.deployments.logs.files import LogFile, sign_of
from quorate.deployments.state_folder import state_folder
from quorate.deployments.telemetry.settings import LogSettings

_COUNTS = Path("/proc/vmstat")
# What has grown by less is not worth writing down.
_GROWN = 1.1
# Of what a sign says, with blanks: it is written over in place.
_LENGTH = 100


class SignOfLife:
    """This process's, beside its log; where the disk takes no more there is none."""

    def __init__(self, log: LogFile):
        self._kills, self._held_bytes = _memory_kills(), 0
        self._path = None if log.path is None else sign_of(log.path)
        self._file: int | None = None
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._file = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX)
        self.renew(1)

    def renew(self, held_bytes: int) -> None:
        """Say how much memory it holds."""
        if self._file is not None and held_bytes > _GROWN * self._held_bytes:
            self._held_bytes = held_bytes
            said = json.dumps({"pid": os.getpid(), "kills": self._kills, "held_bytes": held_bytes})
            with contextlib.suppress(OSError):
                os.pwrite(self._file, said.ljust(_LENGTH).encode(), 0)

    def end(self) -> None:
        """It ends, and not without a word."""
        if self._path is not None and self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def tell_ended(ensemble: str, node: str, settings: LogSettings) -> None:
    """Write into the logs of an ensemble's replicas on this node that have ended without a word what became of them.

    Args:
        node: its address: other nodes may share the folder.
        settings: how they wrote.
    """
    for log in sorted((state_folder() / "logs" / ensemble).glob(f"*/*@{node}.log")):
        with contextlib.suppress(OSError, ValueError):  # it lives or has ended well, or another tells it
            found = _taken(sign_of(log))
            dead = LogFile(ensemble, log.parent.name, log.stem.partition("@")[0], node)
            dead.use(settings)
            dead.write(_last_words(found), "error")


def _taken(sign: Path) -> dict[str, Any]:
    """What a sign says that nobody holds; it is gone then.

    Raises:
        OSError: there is none, or its process holds it.
        ValueError: its process has just made it.
    """
    with sign.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found: dict[str, Any] = json.loads(file.read())
        sign.unlink()
        return found


def _last_words(found: dict[str, Any]) -> str:
    held = f"its process {found['pid']} has ended without a word, when it held some {found['held_bytes'] >> 20:,} MiB"
    kills = _memory_kills() - found["kills"]
    if kills > 0:
        others = "a process" if kills == 1 else f"{kills} processes"
        return f"{held}: the kernel has killed {others} of this machine for memory since it started"
    return f"{held}: it was killed, or it crashed; not by the kernel for its memory"


def _memory_kills() -> int:
    """How many processes of this machine the kernel has killed for memory; 0 where it does not say."""
    with contextlib.suppress(OSError):
        counts = dict(line.split() for line in _COUNTS.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    return 0
