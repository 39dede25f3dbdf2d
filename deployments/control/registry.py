"""The published revisions of each running ensemble, in Ray's own store: what a fusion replica that starts later serves.

Serve's ``user_config`` would do, but every ``serve.run`` restarts the replicas of the application it names.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.experimental import internal_kv

from quorate.deployments.errors import UnavailableError
from quorate.deployments.spec.ensemble import EnsembleSpec

KEPT = 10
# A publication takes at most about this long; a lock that is older was left by a process that died.
LOCK_S = 90.0
WAIT_S = 10.0
_NAMESPACE = b"quorate"


@dataclass(frozen=True)
class Publication:
    """A published spec, the folder that its relative paths start from, and the application of each member."""

    spec: EnsembleSpec
    folder: Path
    apps: Mapping[str, str]

    def words(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"spec": self.spec.model_dump(mode="json"), "folder": str(self.folder), "apps": dict(self.apps)}

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Publication:
        """What ``words`` gave."""
        return cls(EnsembleSpec.model_validate(words["spec"]), Path(words["folder"]), words["apps"])


def _key(ensemble: str) -> bytes:
    return f"published/{ensemble}".encode()


def stored(ensemble: str) -> bytes:
    """The history as it is stored: when these bytes are the same, so is the history."""
    return internal_kv._internal_kv_get(_key(ensemble), namespace=_NAMESPACE) or b""


def history(ensemble: str) -> list[Publication]:
    """What was published, oldest first; the last one is live."""
    return [Publication.of(words) for words in json.loads(stored(ensemble) or b"[]")]


def record(publication: Publication, dropping: str = "") -> None:
    """Make a spec the live one of its ensemble; if it was live before, it moves to the end of the history.

    Args:
        dropping: a revision that is gone for good.
    """
    spec = publication.spec
    gone = (spec.revision, dropping)
    kept = [*(old for old in history(spec.name) if old.spec.revision not in gone), publication][-KEPT:]
    data = json.dumps([publication.words() for publication in kept])
    internal_kv._internal_kv_put(_key(spec.name), data.encode(), overwrite=True, namespace=_NAMESPACE)


@contextmanager
def one_at_a_time(ensemble: str) -> Iterator[None]:
    """Hold an ensemble's lock: of two publications at once, replicas might keep different ones.

    Raises:
        UnavailableError: another publication holds it.
    """
    key, until = f"publishing/{ensemble}".encode(), time.monotonic() + WAIT_S
    mine = f"{time.time()} {uuid.uuid4()}".encode()
    while internal_kv._internal_kv_put(key, mine, overwrite=False, namespace=_NAMESPACE):
        held = internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
        if held and float(held.split()[0]) < time.time() - LOCK_S:
            internal_kv._internal_kv_del(key, namespace=_NAMESPACE)
        elif time.monotonic() > until:
            raise UnavailableError(f"another revision of '{ensemble}' is being published; retry when it is")
        else:
            time.sleep(0.05)
    try:
        yield
    finally:
        if internal_kv._internal_kv_get(key, namespace=_NAMESPACE) == mine:
            internal_kv._internal_kv_del(key, namespace=_NAMESPACE)


def forget(ensemble: str) -> None:
    """Drop an ensemble's history."""
    internal_kv._internal_kv_del(_key(ensemble), namespace=_NAMESPACE)


def live(ensemble: str, wiring: str) -> Publication:
    """The newest publication that fits replicas of this wiring."""
    return next(found for found in reversed(history(ensemble)) if found.spec.wiring == wiring)
