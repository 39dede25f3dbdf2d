"""Which nodes have all files of a revision: hints in the cluster's store, never more than where to ask first."""

from __future__ import annotations

from pathlib import Path

import ray

from quorate.deployments.records.registry import Store

_KEY = "holders"


class Holders:
    """Of the folders of revisions, by the addresses of nodes.

    A node that was away is none until it has looked: it may have come back with another disk.
    """

    def __init__(self, store: Store):
        self._store = store

    def add(self, name: Path) -> None:
        """This node has all files of a folder."""
        here = ray.util.get_node_ip_address()
        self._store.put(f"{_KEY}/{name}/{here}", alive().get(here, "").encode())

    def of(self, name: Path) -> list[str]:
        """The addresses of nodes that have all of them, and have been alive since they said so."""
        keys = self._store.keys(f"{_KEY}/{name}/")
        nodes = {key.rpartition("/")[2]: key for key in keys}
        return sorted(node for node, one in alive().items() if node in nodes and self._is(nodes[node], one))

    def drop_all_but(self, folder: Path, names: set[str]) -> None:
        """Forget whoever has folders below one, other than those called so."""
        for key in self._store.keys(f"{_KEY}/{folder}/"):
            if key.split("/")[-2] not in names:
                self._store.delete(key)

    def _is(self, key: str, node_id: str) -> bool:
        return self._store.get(key).decode() == node_id


def alive() -> dict[str, str]:
    """The addresses of all nodes that are alive, and their ids, of which each start gives another."""
    return {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}
