"""Where the member replicas are, told by Serve's controller the moment it changes.

Serve pushes each deployment's replicas to the request router of every handle. Ours sends no requests: it passes on the
addresses that replicas announce through ``record_replica_metadata``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from quorate.deployments.routing.replica import Address

OnReplicas = Callable[[dict[str, Address]], None]

_listeners: dict[str, OnReplicas] = {}
_latest: dict[str, dict[str, Address]] = {}
_lock = threading.Lock()


def listen(app: str, on_replicas: OnReplicas) -> None:
    """Have ``on_replicas`` called, from any thread, with the replicas of a Serve application whenever they change."""
    with _lock:
        _listeners[app] = on_replicas
        latest = _latest.get(app)
    if latest is not None:
        on_replicas(latest)


def forget(app: str) -> None:
    """Know nothing more of an application that nobody asks any more."""
    with _lock:
        _listeners.pop(app, None)
        _latest.pop(app, None)


def announce(app: str, addresses: dict[str, Address]) -> None:
    """Pass on where an application's replicas are now, where anybody listens."""
    with _lock:
        listener = _listeners.get(app)
        if listener is None:
            return
        _latest[app] = addresses
    listener(addresses)


class DirectoryRouter(RequestRouter):
    """Serve's request router for member deployments; control calls may still travel through it."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        return [candidate_replicas]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        # Serve ships this class by value, so the registry has to be looked up where it runs.
        from quorate.deployments.control.serve import directory

        known = {replica.replica_id.unique_id: replica.replica_metadata for replica in replicas}
        directory.announce(
            self.app_name, {replica_id: Address.announced(data) for replica_id, data in known.items() if data}
        )
