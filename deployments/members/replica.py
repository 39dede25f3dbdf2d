"""A member as a Ray Serve deployment: Serve places, checks, scales and stops it; requests come over its own sockets."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from quorate.deployments.spec.schema import MemberJob
from quorate.deployments.transport.connection import Listener

# A replica that is told to stop takes calls for this long yet: its successor is known everywhere before it leaves.
HANDOVER_S = 1.0


class MemberReplica:
    """One replica: one model on one device, one inference thread, a socket file for its node and a port for others."""

    def __init__(self, job_json: str, folder: str, start_folder: str, fingerprint: str):
        job = MemberJob.model_validate_json(job_json)
        if not job.member.resources.num_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all GPUs visible to an actor that asked for none
        import torch

        threads = max(1, int(job.member.resources.num_cpus))
        torch.set_num_threads(threads)
        from quorate.deployments.members.garbage_collection import spare_loaded
        from quorate.deployments.members.inference_loop import InferenceLoop
        from quorate.deployments.members.model import load_model, search_in
        from quorate.deployments.members.predictor import Predictor

        search_in(Path(folder), Path(start_folder))  # where the operator stood when deploying
        self._job, self._fingerprint = job, fingerprint
        self._predictor = Predictor(load_model(job.name, job.member, Path(folder)), job)
        self._predictor.warm_up()
        self._bind()
        self._inference = InferenceLoop(
            self._predictor, job.member.inputs, job.member.max_batch_size, self._listeners, threads
        )
        spare_loaded()
        self._inference.start()
        self._last_stats = (time.monotonic(), 0.0)

    def _bind(self) -> None:
        import ray

        from quorate.deployments.transport.key_store import cluster_keys
        from quorate.deployments.transport.tcp import TcpListener
        from quorate.deployments.transport.unix import UnixListener

        host, replica_id = ray.util.get_node_ip_address(), _replica_id()
        path = socket_folder() / replica_id
        between_nodes = TcpListener(host, cluster_keys().for_server())
        self._listeners: list[Listener] = [UnixListener(path), between_nodes]
        self._address = {
            "replica_id": replica_id,
            "node_id": ray.get_runtime_context().get_node_id(),
            "path": str(path),
            "host": host,
            "port": between_nodes.port,
            "datatype": self._predictor.datatype,
            "dims": self._predictor.dims,
        }

    def record_replica_metadata(self) -> dict[str, Any]:
        """Serve passes this on to everyone who holds a handle."""
        return self._address

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Share of the time since the last call spent in forward passes, and how many full batches wait now."""
        now, busy_s = time.monotonic(), self._inference.busy_s
        then, before_s = self._last_stats
        self._last_stats = (now, busy_s)
        share = (busy_s - before_s) / max(now - then, 1e-9)
        queued = self._inference.queued_rows / self._job.member.max_batch_size
        return {"busy_share": min(share, 1.0), "queued_batches": queued}

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        stalled_s = self._inference.stalled_s()
        if stalled_s > self._job.member.stall_timeout_s:
            raise RuntimeError(f"member '{self._job.name}' has made no progress for {stalled_s:.0f} s")
        if self._predictor.device_lost:
            raise RuntimeError(f"member '{self._job.name}' lost its device: {self._predictor.last_error}")
        if not self._inference.is_alive():
            raise RuntimeError(f"member '{self._job.name}' has no inference thread any more")

    def describe(self) -> dict[str, Any]:
        """For ``quorate status``."""
        import ray

        accelerators = ray.get_runtime_context().get_accelerator_ids()
        return {
            "fingerprint": self._fingerprint,
            "replica": self._address["replica_id"],
            "pid": os.getpid(),
            "node": self._address["node_id"],
            "gpu_ids": accelerators.get("GPU", []),
            "device": str(self._predictor.model.device),
            "queued_rows": self._inference.queued_rows,
            "busy_s": self._inference.busy_s,
            "last_error": self._predictor.last_error,
        }

    def __del__(self) -> None:
        # Serve calls this when it stops the replica, and waits for it.
        if hasattr(self, "_inference") and self._inference.is_alive():
            time.sleep(HANDOVER_S)
            self._inference.drain(timeout_s=15)


def _replica_id() -> str:
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)


def socket_folder() -> Path:
    """A folder only this user can enter, inside Ray's session folder, so that it goes when the cluster goes."""
    from ray._private import worker

    node: Any = worker._global_node  # Ray has no public way to ask for the session folder
    folder = Path(node.get_session_dir_path()) / "quorate"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
