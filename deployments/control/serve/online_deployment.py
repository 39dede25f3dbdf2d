"""What learns an ensemble's weights, as a Ray Serve deployment: one, whatever number of doors and nodes there are.

Nothing asks it anything, and nobody waits for it.
"""

from __future__ import annotations

import os
from typing import Any

from quorate.deployments.control.ray_private import ClusterStore, bind_serve_to_node, end_process_later
from quorate.deployments.control.serve.repeating import repeat
from quorate.deployments.logs.files import LogFile
from quorate.deployments.logs.handler import DOORS, keep_own
from quorate.deployments.records.registry import Registry


class OnlineDeployment:
    """The only replica of its application."""

    def __init__(self, ensemble: str, fingerprint: str):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        bind_serve_to_node()
        import ray
        from ray import serve

        from quorate.deployments.control.online.online_learning import LOOK_S, OnlineLearning

        self._fingerprint = fingerprint
        replica = str(serve.get_replica_context().replica_id.unique_id)
        keep_own(LogFile(ensemble, DOORS, replica, ray.util.get_node_ip_address()))
        learning = OnlineLearning(ensemble, Registry(ClusterStore()))
        self._learning = learning
        self._end = repeat("online", LOOK_S, learning.turn, f"weights of {ensemble} do not learn")

    def describe(self) -> dict[str, Any]:
        """For those who start it, and who look for it."""
        import ray

        return {"fingerprint": self._fingerprint, "pid": os.getpid(), "node": ray.util.get_node_ip_address()}

    def check_health(self) -> None:
        """It is there; what it cannot do now it does later."""

    def __del__(self) -> None:
        # Serve calls this when it stops the replica.
        if hasattr(self, "_end"):
            self._end()
            self._learning.close()
            end_process_later()
