"""What replicas on this node have written since one last looked: their files grow, and are put aside when full."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from quorate.deployments.logs.files import ReplicaLog, log_files, older_of, replica_log

# Ensemble, member, replica.
Key = tuple[str, str, str]


class Cursor(NamedTuple):
    """How far a replica's log has been read: which file, and bytes of it."""

    inode: int
    at: int


def read_new(
    ensembles: tuple[str, ...], member: str | None, cursors: Mapping[Key, Cursor]
) -> list[tuple[ReplicaLog, Cursor]]:
    """Whole lines beyond the cursors, of replicas that have written some, and where each ends.

    Args:
        member: all when None.
        cursors: of replicas that have been read before; others are read from their first line that is kept.
    """
    found = []
    for path in log_files(ensembles, member):
        with contextlib.suppress(OSError):  # it went meanwhile
            log = replica_log(path, "")
            text, cursor = _beyond(path, cursors.get((log.ensemble, log.member, log.replica)))
            if text:
                found.append((replace(log, text=text), cursor))
    return sorted(found, key=lambda one: one[0].written_at)


def _beyond(path: Path, cursor: Cursor | None) -> tuple[str, Cursor]:
    older = older_of(path)
    before = b""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        inode = status.st_ino
        if cursor is not None and cursor.inode == inode and cursor.at > status.st_size:
            cursor = None  # another file that has been given the number of one that is gone
        if cursor is None or cursor.inode != inode:
            if older.exists():
                begun = cursor is not None and older.stat().st_ino == cursor.inode
                before = older.read_bytes()[cursor.at if cursor is not None and begun else 0 :]
            cursor = Cursor(inode, 0)
        file.seek(cursor.at)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    return (before + whole).decode(errors="replace"), Cursor(inode, cursor.at + len(whole))
