"""A member as a Ray Serve deployment: Serve places, checks, scales and stops it; requests come over its own sockets."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.ray_private import (
    ClusterStore,
    bind_serve_to_node,
    content_cache,
    end_process_later,
    kept_root,
    private_folder,
)
from quorate.deployments.errors import MemberLoadError, MissingArtifactError, SentError
from quorate.deployments.logs.capture import copy_output
from quorate.deployments.logs.files import SHARED, LogFile
from quorate.deployments.logs.lives import SignOfLife
from quorate.deployments.records.kept_files import KeptFiles, drop_damaged
from quorate.deployments.records.registry import Registry
from quorate.deployments.spec.schema import MemberJob
from quorate.fusion.errors import QuorateError

if TYPE_CHECKING:
    from quorate.deployments.members.replica import MemberReplica, Place

# Of the code that runs, whatever is installed since.
_VERSION = version("quorate")


class MemberDeployment:
    """One replica of a member.

    Args:
        job_json: a ``MemberJob``.
        files: its ``KeptFiles`` as JSON, which come to this node where it lacks them.
        folder: what the spec's relative paths started from on the machine that it was deployed from.
        start_folder: where the operator stood when deploying; factories are looked for there too.
    """

    def __init__(self, job_json: str, files: str, folder: str, start_folder: str, fingerprint: str):
        bind_serve_to_node()
        self._job, self._fingerprint = MemberJob.model_validate_json(job_json), fingerprint
        if not self._job.member.resources.num_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all GPUs visible to an actor that asked for none
        _forget_folders(Path(folder), Path(start_folder))
        place = _place()
        owner = SHARED if self._job.member.share else self._job.ensemble
        log = LogFile(owner, self._job.name, place.replica_id, place.host)
        self._life = SignOfLife(log)
        try:
            self._replica = _started(self._job, KeptFiles.from_json(json.loads(files)), Path(start_folder), place, log)
        except BaseException:
            self._life.end()
            raise
        self._last_stats = (time.monotonic(), 0.0)

    def record_replica_metadata(self) -> dict[str, Any]:
        """Serve passes this on to everyone who holds a handle."""
        return self._replica.address

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Share of the time since the last call spent in forward passes, and how many full batches wait now."""
        now, busy_s = time.monotonic(), self._replica.busy_s
        then, before_s = self._last_stats
        self._last_stats = (now, busy_s)
        share = (busy_s - before_s) / max(now - then, 1e-9)
        queued = self._replica.queued_rows / self._job.member.max_batch_size
        return {"busy_share": min(share, 1.0), "queued_batches": queued}

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        self._life.renew(self._replica.memory["resident_bytes"])
        self._replica.check_health()

    def describe(self) -> dict[str, Any]:
        """For ``quorate status``."""
        import ray

        accelerators = ray.get_runtime_context().get_accelerator_ids()
        return {
            "fingerprint": self._fingerprint,
            "replica": self._replica.address["replica_id"],
            "pid": os.getpid(),
            "quorate": _VERSION,
            "node": self._replica.address["node_id"],
            "gpu_ids": accelerators.get("GPU", []),
            "device": self._replica.device,
            "memory": self._replica.memory,
            "queued_rows": self._replica.queued_rows,
            "busy_s": self._replica.busy_s,
            "failures": self._replica.failures.count,
            "last_error": self._replica.failures.last,
        }

    def __del__(self) -> None:
        # Serve calls this when it stops the replica, and waits for it.
        if hasattr(self, "_replica"):
            self._life.end()
            self._replica.stop()
            end_process_later()


def _started(job: MemberJob, files: KeptFiles, start_folder: Path, place: Place, log: LogFile) -> MemberReplica:
    """The replica, which writes into its log; what keeps it from starting too, and says so to the operator."""
    from quorate.deployments.members.replica import MemberReplica
    from quorate.deployments.sources.factory import search_in

    log.use(Registry(ClusterStore()).telemetry(job.ensemble).logs)
    copy_output(log)
    try:
        folder = bring(files)
        search_in(folder, start_folder)
        return MemberReplica(job, folder, place, log)
    except Exception as error:
        for file in drop_damaged(files.files, kept_root() / files.name, content_cache()):
            log.write(f"{file.path} is damaged on this node; it is fetched anew")
        cause = error.__cause__ or error  # the member's own
        log.write(f"did not start: {error}\n{''.join(traceback.format_exception(cause))}", "error")
        if isinstance(error, MissingArtifactError):
            raise SentError(MemberLoadError.__name__, (job.name, error.found, error.fix)) from None
        if isinstance(error, QuorateError):
            raise SentError(type(error).__name__, error.args) from None
        raise


def _forget_folders(*folders: Path) -> None:
    """Have Python look in them no more: Ray lets workers look where the operator's script lies, before all else.

    Of code of which there are copies they may have another version by now.
    """
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() not in folders]


def _place() -> Place:
    import ray
    from ray import serve

    from quorate.deployments.members.replica import Place

    return Place(
        replica_id=str(serve.get_replica_context().replica_id.unique_id),
        node_id=ray.get_runtime_context().get_node_id(),
        host=ray.util.get_node_ip_address(),
        socket_folder=private_folder(),
        keys=Registry(ClusterStore()).cluster_keys(),
    )
