"""Content from node to node through Ray's object store: piece by piece, so that no file needs room in it as a whole.

A node passes on what it is still receiving: a chain of nodes takes hardly longer than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray

from quorate.deployments.control.ray_private import content_cache

# Pieces that wait at the sender; with PIECE_BYTES what a transfer holds of the object store, on either side.
_AHEAD = 4
PIECE_TIMEOUT_S = 120.0


def pieces_from(node: str, digest: str, size_bytes: int, start: int, wait_s: float) -> Iterator[memoryview]:
    """A content from a byte on, as another node has it.

    Args:
        node: its address.
        wait_s: how long it may take until that node has anything of it.

    Raises:
        RayError: it has not, or does not answer.
    """
    if start >= size_bytes:
        return
    send: Any = ray.remote(num_cpus=0, max_retries=0)(_pieces)
    sending = send.options(
        num_returns="streaming", _generator_backpressure_num_objects=_AHEAD, resources={f"node:{node}": 0.001}
    ).remote(digest, size_bytes, start, wait_s)
    for piece in sending:
        yield memoryview(ray.get(piece, timeout=PIECE_TIMEOUT_S))


def _pieces(digest: str, size_bytes: int, start: int, wait_s: float) -> Iterator[Any]:
    """Runs on the node that sends; arrays, as these are not copied on their way out of the object store."""
    import numpy as np

    for piece in content_cache().read(digest, size_bytes, start, wait_s):
        yield np.frombuffer(piece, np.uint8)
