"""Where an ensemble's doors did not start, and how often: for all who look, since any of them may try it next."""

from __future__ import annotations

from collections.abc import Iterable

from quorate.deployments.records.registry import Store


class DoorFailures:
    """Of one ensemble, by the addresses of nodes."""

    def __init__(self, store: Store, ensemble: str):
        self._store, self._prefix = store, f"door-failures/{ensemble}/"

    def counts(self) -> dict[str, int]:
        """How often in a row it has failed on each node."""
        keys = self._store.keys(self._prefix)
        return {key.removeprefix(self._prefix): int(self._store.get(key) or b"0") for key in keys}

    def note(self, nodes: Iterable[str]) -> None:
        """It has failed once more. Hold the ensemble's lease."""
        known = self.counts()
        for node in nodes:
            self._store.put(self._prefix + node, str(known.get(node, 0) + 1).encode())

    def forget_all(self) -> None:
        """The ensemble is no more."""
        self.forget(self.counts())

    def forget(self, nodes: Iterable[str]) -> None:
        """It has succeeded, or the node is not there any more."""
        for node in nodes:
            self._store.delete(self._prefix + node)
