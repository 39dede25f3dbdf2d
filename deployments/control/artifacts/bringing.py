"""Bring files of a revision to this node: linked where it has their contents, else from other nodes or the store."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayError

from quorate.deployments.control.artifacts.holders import Holders, alive
from quorate.deployments.control.artifacts.transfer import pieces_from
from quorate.deployments.control.ray_private import ClusterStore, content_cache, kept_root
from quorate.deployments.errors import DeployError, MissingArtifactError, UnavailableError
from quorate.deployments.records.artifact_store import open_store
from quorate.deployments.records.claims import Claims
from quorate.deployments.records.kept_files import KeptFile, KeptFiles, drop_unrecorded
from quorate.deployments.records.registry import Registry

_log = logging.getLogger(__name__)
# What a node that is told to pass on may take until it has begun to receive.
CHAIN_WAIT_S = 60.0


def bring(files: KeptFiles, first: Sequence[str] = ()) -> Path:
    """Have the files on this node; returns their folder.

    Args:
        first: addresses of nodes that have them, or begin to receive them now.

    Raises:
        MissingArtifactError: one cannot be had.
    """
    place = kept_root() / files.name
    missing = [file for file in files.files if not _linked(file, place)]
    if missing:
        _make_room()
        way = _Way(files, first)
        for file in missing:
            way.fetch(file)
    place.mkdir(parents=True, exist_ok=True)
    return place


def bring_all(files: KeptFiles, first: Sequence[str] = ()) -> None:
    """Have all files of a revision on this node, for others to have them from; raises as ``bring``."""
    bring(files, first)
    Holders(ClusterStore()).add(files.name)


def has_all(files: KeptFiles) -> bool:
    """Whether this node has all of them; nobody is asked."""
    return all(_is_there(kept_root() / files.name / file.path) for file in files.files)


def _is_there(target: Path) -> bool:
    return target.is_file() and not target.is_symlink()


def _linked(file: KeptFile, place: Path) -> bool:
    target = place / file.path
    return _is_there(target) or content_cache().link(file.digest, target)


def _make_room() -> None:
    """Before something comes: what no record names is in the way."""
    store = ClusterStore()
    records = Registry(store).records().values()
    named = {publication.files.name for record in records for publication in record.publications}
    shared = {Path(app) for record in records for app in Claims(store).of(record.live.spec.name)}
    drop_unrecorded(named | shared, kept_root())


@dataclass
class _Way:
    """Where files may come from, tried one after the other; who failed once is asked last."""

    files: KeptFiles
    first: Sequence[str]
    failed: dict[str, str] = field(default_factory=dict)

    def fetch(self, file: KeptFile) -> None:
        cache, target = content_cache(), kept_root() / self.files.name / file.path
        for source in self._sources():
            try:
                cache.add(file.digest, file.size_bytes, partial(self._pieces, source, file))
            except (RayError, GetTimeoutError, UnavailableError, DeployError, OSError) as error:
                self.failed[source] = _reason(error)
                _log.warning("%s does not come from %s: %s", file.path, source, self.failed[source])
                continue
            if cache.link(file.digest, target):
                return
        raise MissingArtifactError(file.path, file.digest, self._looked())

    def _sources(self) -> Iterator[str]:
        """Addresses of nodes, and the store's URI."""
        here, holders = ray.util.get_node_ip_address(), Holders(ClusterStore()).of(self.files.name)
        random.shuffle(holders)  # the load is on all of them
        stores = [self.files.store] if self.files.store else []
        others = sorted(set(alive()) - set(holders))  # the hints may be behind
        found = [source for source in dict.fromkeys((*self.first, *holders, *stores, *others)) if source != here]
        yield from sorted(found, key=lambda source: source in self.failed)

    def _pieces(self, source: str, file: KeptFile, start: int) -> Iterator[bytes | memoryview]:
        if source == self.files.store:
            yield from open_store(source).read(file.digest, start)
        else:
            wait_s = CHAIN_WAIT_S if source in self.first else 0.0
            yield from pieces_from(source, file.digest, file.size_bytes, start, wait_s)

    def _looked(self) -> str:
        if not self.failed:
            return "no other node is alive"
        return "it came from none of " + ", ".join(f"{source} ({why})" for source, why in self.failed.items())


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    last = lines[-1] if lines else type(error).__name__
    return "has it not" if isinstance(error, FileNotFoundError) or "FileNotFoundError" in last else last[:160]
