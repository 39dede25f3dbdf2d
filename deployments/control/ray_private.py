"""Every use of Ray's private parts, each with its reason: when a Ray release moves one, this file changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_NAMESPACE = b"quorate"


class ClusterStore:
    """Ray's own key-value store, the internal one of its head process.

    Ray has no public store. Serve's ``user_config`` would do, but every ``serve.run`` restarts the replicas of the
    application it names; an actor would be one more process that can die. This store lives as long as the cluster,
    answers while nothing of ours runs, and can put a key only where there is none.
    """

    def get(self, key: str) -> bytes:
        """What is kept under a key; empty for nothing."""
        from ray.experimental import internal_kv

        found: bytes | None = internal_kv._internal_kv_get(key.encode(), namespace=_NAMESPACE)
        return found or b""

    def put(self, key: str, value: bytes, overwrite: bool = True) -> bool:
        """Keep a value; without ``overwrite`` only where there is none. Returns whether it was kept."""
        from ray.experimental import internal_kv

        existed = internal_kv._internal_kv_put(key.encode(), value, overwrite=overwrite, namespace=_NAMESPACE)
        return overwrite or not existed

    def delete(self, key: str) -> None:
        """Forget a key, whether there is one or not."""
        from ray.experimental import internal_kv

        internal_kv._internal_kv_del(key.encode(), namespace=_NAMESPACE)


def session_folder() -> Path:
    """Ray's folder for this session on this node, which goes when the cluster goes. Ray has no public way to ask."""
    from ray._private import worker

    node: Any = worker._global_node
    return Path(node.get_session_dir_path())


def count_gpus() -> int:
    """GPUs of this machine, as Ray would count them when it starts here; its public calls need a running Ray."""
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    return int(NvidiaGPUAcceleratorManager.get_current_node_num_accelerators())
