"""The published revisions of each running ensemble, in Ray's own store: what a fusion replica that starts later serves.

Serve's ``user_config`` would do, but every ``serve.run`` restarts the replicas of the application it names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ray.experimental import internal_kv

from quorate.deployments.spec import EnsembleSpec

KEPT = 10
_NAMESPACE = b"quorate"


@dataclass(frozen=True)
class Publication:
    """A published spec, and the folder that its relative paths start from."""

    spec: EnsembleSpec
    folder: Path


def _key(ensemble: str) -> bytes:
    return f"published/{ensemble}".encode()


def history(ensemble: str) -> list[Publication]:
    """What was published, oldest first; the last one is live."""
    found = internal_kv._internal_kv_get(_key(ensemble), namespace=_NAMESPACE)
    items = json.loads(found) if found else []
    return [Publication(EnsembleSpec.model_validate(item["spec"]), Path(item["folder"])) for item in items]


def record(publication: Publication) -> None:
    """Make a spec the live one of its ensemble; if it was live before, it moves to the end of the history."""
    spec = publication.spec
    kept = [*(old for old in history(spec.name) if old.spec.revision != spec.revision), publication][-KEPT:]
    data = json.dumps([{"spec": p.spec.model_dump(mode="json"), "folder": str(p.folder)} for p in kept])
    internal_kv._internal_kv_put(_key(spec.name), data.encode(), overwrite=True, namespace=_NAMESPACE)


def forget(ensemble: str) -> None:
    """Drop an ensemble's history."""
    internal_kv._internal_kv_del(_key(ensemble), namespace=_NAMESPACE)


def live(ensemble: str, wiring: str) -> Publication:
    """The newest publication that fits replicas of this wiring."""
    return next(found for found in reversed(history(ensemble)) if found.spec.wiring == wiring)
