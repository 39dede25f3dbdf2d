"""New labelled rows of all doors of an ensemble, wherever they record them, each once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayError

from quorate.deployments.control.artifacts.holders import alive
from quorate.deployments.control.forked_workers import REPLICA_MODULES, worker_options
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.online.following import Follower, LabelledRows
from quorate.deployments.learning.seen import Seen

_log = logging.getLogger(__name__)
# What a node may take to start a process for its folder, and to read on.
TIMEOUT_S = 30.0
# Rows that come from a node at a time.
CHUNK_BYTES = 8 << 20


class LabelledRowsOfDoors:
    """Of one record.

    Attributes:
        local: whether each node has a folder of its own; what is on others is read by a process there, not by doors.
    """

    def __init__(self, folder: str):
        found = RecordFolder(folder)
        self.local, self._folder = found.local, folder
        self._here = Follower(found)
        self._elsewhere: dict[str, Any] = {}  # by the address of a node
        self._given = Seen()  # several nodes may have one disk

    def new(self, nodes: Collection[str]) -> Iterator[LabelledRows]:
        """What is new; of a node that does not answer it comes when it does.

        Args:
            nodes: the addresses of those that have doors.

        Raises:
            OSError: the store does not say.
        """
        yield from self._once(self._here.new())
        others = set(nodes) - {ray.util.get_node_ip_address()} if self.local else set()
        there = alive().keys() if others else set()
        for node in sorted(others & there):
            yield from self._once(self._of(node))
        for node in self._elsewhere.keys() - (others & there):
            ray.kill(self._elsewhere.pop(node))

    def close(self) -> None:
        """Read nothing more."""
        for reader in self._elsewhere.values():
            ray.kill(reader)
        self._elsewhere.clear()

    def _of(self, node: str) -> Iterator[LabelledRows]:
        reader = self._elsewhere.get(node)
        if reader is None:
            place = {"num_cpus": 0, "resources": {f"node:{node}": 0.001}, **worker_options(REPLICA_MODULES)}
            remote: Any = ray.remote(_Reader)
            reader = self._elsewhere[node] = remote.options(**place).remote(self._folder)
        try:
            while found := ray.get(reader.some.remote(), timeout=TIMEOUT_S):
                yield from found
        except (RayError, TimeoutError) as error:
            _log.warning("labels on %s are read later: %s", node, str(error).splitlines()[-1:])
            ray.kill(self._elsewhere.pop(node))

    def _once(self, found: Iterable[LabelledRows]) -> Iterator[LabelledRows]:
        for one in found:
            columns = (one.batch.column(name).to_pylist() for name in ("id", "row"))
            about = hash(one.batch.schema.metadata[b"quorate"])
            keys = [hash((answer, row, about)) for answer, row in zip(*columns, strict=True)]
            fresh = [at for at, before in enumerate(self._given.find(keys)) if before is None]
            for at in fresh:
                self._given.add(keys[at], 0)
            if len(fresh) == len(keys):
                yield one
            elif fresh:
                labels = [one.labels[at] for at in fresh]
                yield LabelledRows(one.batch.take(pa.array(fresh)), labels, one.came_us[np.array(fresh)])


class _Reader:
    """Follows the record on its node; an actor that ends with who started it."""

    def __init__(self, folder: str):
        self._follower = Follower(RecordFolder(folder))
        self._new: Iterator[LabelledRows] | None = None

    def some(self) -> list[LabelledRows]:
        """What is new, up to a size; nothing when that was all."""
        if self._new is None:
            self._new = self._follower.new()
        found, nbytes = [], 0
        for one in self._new:
            found.append(one)
            nbytes += one.batch.nbytes
            if nbytes > CHUNK_BYTES:
                return found
        self._new = None
        return found
