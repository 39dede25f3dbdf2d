"""The registry of running ensembles: their published revisions, their doors, and who is changing one now.

A fusion replica that starts later reads here what it serves and whom it admits. Of tokens only digests are kept.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import TypeAdapter

from quorate.deployments.errors import UnavailableError
from quorate.deployments.security.doors import Doors
from quorate.deployments.spec.ensemble import EnsembleSpec

if TYPE_CHECKING:
    from quorate.deployments.transport.keys import ClusterKeys

KEPT = 10
# A lease that has not been renewed for this long was left by a process that died.
LEASE_S = 90.0
WAIT_S = 10.0
_POLL_S = 0.05
_DOORS = TypeAdapter(Doors)


class Store(Protocol):
    """Where the registry keeps its bytes; ``ray_private.ClusterStore`` on a cluster."""

    def get(self, key: str) -> bytes: ...

    def put(self, key: str, value: bytes, overwrite: bool = True) -> bool: ...

    def delete(self, key: str) -> None: ...


@dataclass(frozen=True)
class Publication:
    """A published spec, the folder that its relative paths start from, and the application of each member."""

    spec: EnsembleSpec
    folder: Path
    apps: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"spec": self.spec.model_dump(mode="json"), "folder": str(self.folder), "apps": dict(self.apps)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Publication:
        """What ``to_json`` gave."""
        return cls(EnsembleSpec.model_validate(data["spec"]), Path(data["folder"]), data["apps"])


class Registry:
    """Reads and writes one store."""

    def __init__(self, store: Store):
        self._store = store

    def stored(self, ensemble: str) -> bytes:
        """The history as it is stored: while these bytes stay the same, so does the history."""
        return self._store.get(_history_key(ensemble))

    def history(self, ensemble: str) -> list[Publication]:
        """What was published, oldest first; the last one is live."""
        return [Publication.from_json(data) for data in json.loads(self.stored(ensemble) or b"[]")]

    def live(self, ensemble: str, wiring: str) -> Publication:
        """The newest publication that fits replicas of this wiring."""
        return next(found for found in reversed(self.history(ensemble)) if found.spec.wiring == wiring)

    def record(self, publication: Publication, dropping: str = "") -> None:
        """Make a spec the live one of its ensemble; if it was live before, it moves to the end of the history.

        Args:
            dropping: a revision to take out of the history.
        """
        spec = publication.spec
        gone = (spec.revision, dropping)
        kept = [*(old for old in self.history(spec.name) if old.spec.revision not in gone), publication][-KEPT:]
        self._store.put(_history_key(spec.name), json.dumps([old.to_json() for old in kept]).encode())

    def doors(self, ensemble: str) -> Doors:
        """As they were opened last; the default for an ensemble that never was."""
        found = self._store.get(_doors_key(ensemble))
        return _DOORS.validate_json(found) if found else Doors()

    def record_doors(self, ensemble: str, doors: Doors) -> None:
        """Whom a fusion replica that starts from now on admits, and where."""
        self._store.put(_doors_key(ensemble), _DOORS.dump_json(doors))

    def forget(self, ensemble: str) -> None:
        """Drop all that is known of an ensemble."""
        self._store.delete(_history_key(ensemble))
        self._store.delete(_doors_key(ensemble))

    def cluster_keys(self) -> ClusterKeys:
        """What replicas on different nodes prove to each other that they have; made by whoever asks first."""
        from quorate.deployments.transport.keys import ClusterKeys

        if not self._store.get("data-plane-keys"):
            self._store.put("data-plane-keys", ClusterKeys.make().to_json(), overwrite=False)
        return ClusterKeys.from_json(self._store.get("data-plane-keys"))

    @contextmanager
    def lease(self, ensemble: str, wait_s: float = WAIT_S) -> Iterator[None]:
        """Be the only one who changes an ensemble: of two at once, replicas might keep different revisions.

        Raises:
            UnavailableError: another still holds it after ``wait_s``.
        """
        key, until, holder = _lease_key(ensemble), time.monotonic() + wait_s, uuid.uuid4()
        while not self._store.put(key, _lease_of(holder), overwrite=False):
            held = self._store.get(key)
            if held and float(held.split()[0]) < time.time() - LEASE_S:
                self._store.delete(key)
            elif time.monotonic() > until:
                raise UnavailableError(f"another revision of '{ensemble}' is being published; retry when it is")
            else:
                time.sleep(_POLL_S)
        done = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(key, holder, done), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            done.set()
            renewing.join()
            if self._holds(key, holder):
                self._store.delete(key)

    def _renew(self, key: str, holder: uuid.UUID, done: threading.Event) -> None:
        """Keep a lease from looking abandoned: a canary may be watched for longer than ``LEASE_S``."""
        while not done.wait(LEASE_S / 3):
            if self._holds(key, holder):
                self._store.put(key, _lease_of(holder))

    def _holds(self, key: str, holder: uuid.UUID) -> bool:
        return self._store.get(key).endswith(str(holder).encode())


def _history_key(ensemble: str) -> str:
    return f"published/{ensemble}"


def _doors_key(ensemble: str) -> str:
    return f"doors/{ensemble}"


def _lease_key(ensemble: str) -> str:
    return f"publishing/{ensemble}"


def _lease_of(holder: uuid.UUID) -> bytes:
    """When it was taken or renewed, and by whom."""
    return f"{time.time()} {holder}".encode()
