"""Contents on their way to a job: in pieces through Ray's package store, never more than a few of them at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

from quorate.cluster.jobs.api import JobsApi
from quorate.deployments.errors import ClusterError

# Ray's dashboard takes 100 MiB at once, and holds what it takes in its memory.
PIECE_BYTES = 16 << 20
_AHEAD = 4
_STALL_S = 120.0
_POLL_S = 0.02


def piece_name(job: str, number: int) -> str:
    """What a piece is called in the store, until the job has taken it."""
    return f"{job}-{number}.piece"


def upload(api: JobsApi, job: str, wanted: Iterable[tuple[Path, int]], stopped: Event) -> Iterator[int]:
    """Send contents one after the other.

    Args:
        wanted: files, and from which byte on each is wanted.
        stopped: nobody takes them any more.

    Yields:
        How many bytes have been sent so far.

    Raises:
        ClusterError: the job takes no more.
    """
    sent, waiting = 0, deque[tuple[int, Future[None]]]()
    with ThreadPoolExecutor(2) as pool:
        for number, piece in enumerate(_pieces(wanted)):
            waiting.append((number, pool.submit(api.put_package, piece_name(job, number), piece)))
            sent += len(piece)
            if len(waiting) > _AHEAD:
                first, done = waiting.popleft()
                done.result()
                _wait_until_taken(api, piece_name(job, first), stopped)
            if stopped.is_set():
                return
            yield sent
        for _, done in waiting:
            done.result()


def _pieces(wanted: Iterable[tuple[Path, int]]) -> Iterator[bytes]:
    for path, start in wanted:
        with path.open("rb") as file:
            file.seek(start)
            while piece := file.read(PIECE_BYTES):
                yield piece


def _wait_until_taken(api: JobsApi, name: str, stopped: Event) -> None:
    until = time.monotonic() + _STALL_S
    while not stopped.is_set() and api.has_package(name):
        if time.monotonic() > until:
            raise ClusterError(f"the cluster has taken nothing for {_STALL_S:g} s; see ray status, and try again")
        time.sleep(_POLL_S)
