"""The job's end of an upload: pieces out of Ray's package store into this node's cache, and from there to others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from quorate.cluster.jobs.sent_arguments import READ_ONCE
from quorate.cluster.jobs.uploading import piece_name
from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.artifacts.holders import alive
from quorate.deployments.control.artifacts.spreading import Spreading
from quorate.deployments.control.ray_private import Packages, content_cache, kept_root
from quorate.deployments.errors import ClusterError, DeployError
from quorate.deployments.records.artifact_store import open_store
from quorate.deployments.records.kept_files import KeptFile, KeptFiles

_STALL_S = 120.0
_POLL_S = 0.01
# Until all nodes have what members are made of.
_SPREADING_S = 3_600.0

# To nobody; to as many as are to have copies; to all nodes what runs there.
Spread = Literal["", "copies", "everywhere"]


def is_there(name: str) -> bool:
    """Whether the operator's machine has put something of this name."""
    return Packages().has(name)


def take(name: str, more_s: float = 0.0) -> bytes:
    """What it has put, or puts soon; it is there no more.

    Args:
        more_s: how much longer than usually it may take.

    Raises:
        ClusterError: nothing came.
    """
    packages, patience_s = Packages(), _STALL_S + more_s
    until = time.monotonic() + patience_s
    while (found := packages.get(name)) is None:
        if time.monotonic() > until:
            raise ClusterError(f"the operator's machine has sent nothing for {patience_s:.0f} s; try again")
        time.sleep(_POLL_S)
    packages.delete(name)
    return found


def forget(job: str) -> None:
    """Delete all that was put for a job and that it has not taken."""
    Packages().delete_all(f"{job}-")


@contextmanager
def received(job: str, request: Mapping[str, Any], say: Callable[..., None], spread: Spread) -> Iterator[Path]:
    """The folder of a request's files, while the context lasts.

    Args:
        say: told what this node lacks, and from which byte on.
        spread: to which other nodes as well, that have from this one what it has so far.
    """
    files = KeptFiles(Path(f"@{job}"), tuple(KeptFile(*file) for file in request["files"]))
    if not files.files:
        yield Path()
        return
    spreading = None
    if spread == "copies":
        Spreading(files, to_stay=False)
    elif spread == "everywhere":
        run = tuple(file for file in files.files if file.path.partition("/")[0] not in READ_ONCE)
        spreading = Spreading(replace(files, files=run), to_stay=False, copies=len(alive()))
    _receive(files, str(request["arguments"].get("store") or ""), _Incoming(job), say)
    if spreading is not None:
        spreading.wait(_SPREADING_S)
    try:
        yield bring(files)
    finally:
        shutil.rmtree(kept_root() / files.name, ignore_errors=True)


def _receive(files: KeptFiles, store: str, incoming: _Incoming, say: Callable[..., None]) -> None:
    """Have the contents in this node's cache, out of the store where they are there already."""
    cache = content_cache()
    lacking = {file.digest: file for file in files.files if not cache.has(file.digest)}
    for digest, file in [*lacking.items()] if store else ():
        with suppress(OSError, DeployError):  # only the operator's machine sees it, or it holds something else
            cache.add(digest, file.size_bytes, partial(open_store(store).read, digest))
            del lacking[digest]
    say(need=[(digest, cache.received_bytes(digest)) for digest in lacking])
    for digest, file in lacking.items():
        cache.add(digest, file.size_bytes, partial(incoming.pieces, file.size_bytes))


class _Incoming:
    """Pieces in the order of their numbers, one content after the other."""

    def __init__(self, job: str):
        self._job, self._number = job, 0

    def pieces(self, size_bytes: int, start: int) -> Iterator[bytes]:
        """Those of the next content, from a byte on."""
        while start < size_bytes:
            piece = take(piece_name(self._job, self._number))
            self._number += 1
            start += len(piece)
            yield piece
