"""The published revisions of each running ensemble, in Ray's own store: what a fusion replica that starts later serves.

Serve's ``user_config`` would do, but every ``serve.run`` restarts the replicas of the application it names.
"""

from __future__ import annotations

import json

from ray.experimental import internal_kv

from quorate.deployments.spec import EnsembleSpec

KEPT = 10
_NAMESPACE = b"quorate"


def _key(ensemble: str) -> bytes:
    return f"published/{ensemble}".encode()


def history(ensemble: str) -> list[EnsembleSpec]:
    """The published specs, oldest first; the last one is live."""
    found = internal_kv._internal_kv_get(_key(ensemble), namespace=_NAMESPACE)
    return [EnsembleSpec.model_validate(spec) for spec in json.loads(found)] if found else []


def record(spec: EnsembleSpec) -> None:
    """Make a spec the live one of its ensemble."""
    specs = [*(old for old in history(spec.name) if old.revision != spec.revision), spec][-KEPT:]
    data = json.dumps([kept.model_dump(mode="json") for kept in specs])
    internal_kv._internal_kv_put(_key(spec.name), data.encode(), overwrite=True, namespace=_NAMESPACE)


def forget(ensemble: str) -> None:
    """Drop an ensemble's history."""
    internal_kv._internal_kv_del(_key(ensemble), namespace=_NAMESPACE)


def live(ensemble: str, wiring: str) -> EnsembleSpec:
    """The newest published spec that fits replicas of this wiring."""
    return next(spec for spec in reversed(history(ensemble)) if spec.wiring == wiring)
