"""Which nodes have the files of a revision: hints in the cluster's store, never more than where to ask first."""

from __future__ import annotations

from pathlib import Path

import ray

from quorate.deployments.records.registry import Store

_KEY = "holders"


class Holders:
    """Of the folders of revisions, by the addresses of nodes."""

    def __init__(self, store: Store):
        self._store = store

    def add(self, name: Path, node: str) -> None:
        """A node has files of a folder."""
        self._store.put(f"{_KEY}/{name}/{node}", b"1")

    def of(self, name: Path) -> list[str]:
        """The nodes that have some, and are alive."""
        found = {key.rpartition("/")[2] for key in self._store.keys(f"{_KEY}/{name}/")}
        return sorted(found & set(alive()))

    def drop_all_but(self, folder: Path, names: set[str]) -> None:
        """Forget whoever has folders below one, other than those called so."""
        for key in self._store.keys(f"{_KEY}/{folder}/"):
            if key.split("/")[-2] not in names:
                self._store.delete(key)


def alive() -> list[str]:
    """The addresses of all nodes that are alive."""
    return [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
