"""Quorate for workers on nodes that have none, or another: as an archive in Ray's package store, held there."""

from __future__ import annotations

from typing import Any

import ray

from quorate.deployments.control.artifacts.holders import alive
from quorate.deployments.control.ray_private import Packages
from quorate.deployments.own_code.archive import PACKAGE, own_archive, own_digest
from quorate.deployments.own_code.boot import code_digest, code_key

_TIMEOUT_S = 120.0
_NAMESPACE = "quorate"


def nodes_without(digest: str) -> list[str]:
    """The addresses of nodes whose Quorate is not this one; of those that do not answer in time, too."""
    ask: Any = ray.remote(num_cpus=0, max_retries=0)(_digest)
    asked = {node: ask.options(resources={f"node:{node}": 0.001}).remote() for node in alive()}
    return [node for node, answer in asked.items() if not _says(answer, digest)]


def ship_own_code() -> dict[str, Any]:
    """Put this process's Quorate where workers have it from; returns Ray's runtime environment with it.

    Ray deletes a package that no job and no actor needs, and replicas may all be down for a moment: an actor that
    outlives them needs it too.
    """
    key = code_key(own_digest())
    Packages().put(key, own_archive())
    environment = {"py_modules": [f"gcs://{key}"]}
    hold: Any = ray.remote(num_cpus=0, max_restarts=-1)(_Holder)
    named = {"name": key, "namespace": _NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    ray.get(hold.options(**named, runtime_env=environment).remote().ready.remote(), timeout=_TIMEOUT_S)
    return environment


class _Holder:
    def ready(self) -> bool:
        """Its environment has been made."""
        return True


def _says(answer: Any, digest: str) -> bool:
    try:
        return bool(ray.get(answer, timeout=_TIMEOUT_S) == digest)
    except (ray.exceptions.RayError, TimeoutError):
        return False


def _digest() -> str:
    """Of the Quorate that a worker imports; where it has none, this function cannot be found there."""
    return code_digest(PACKAGE)
