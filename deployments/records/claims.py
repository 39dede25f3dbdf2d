"""Which ensembles need an application that several may share; it runs for as long as one does."""

from __future__ import annotations

from quorate.deployments.records.registry import Store


class Claims:
    """Reads and writes one store. An ensemble claims what it needs before that is true, and lets go afterwards."""

    def __init__(self, store: Store):
        self._store = store

    def add(self, app: str, ensemble: str) -> None:
        """An ensemble needs an application from now on."""
        self._store.put(_key(ensemble, app), b"1")

    def drop(self, app: str, ensemble: str) -> None:
        """An ensemble needs it no more."""
        self._store.delete(_key(ensemble, app))

    def of(self, ensemble: str) -> set[str]:
        """The applications that an ensemble needs."""
        return {key.split("/")[2] for key in self._store.keys(f"claim/{ensemble}/")}

    def holders(self, app: str) -> set[str]:
        """The ensembles that need an application."""
        return {key.split("/")[1] for key in self._store.keys("claim/") if key.split("/")[2] == app}


def _key(ensemble: str, app: str) -> str:
    return f"claim/{ensemble}/{app}"
