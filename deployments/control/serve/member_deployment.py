"""A member as a Ray Serve deployment: Serve places, checks, scales and stops it; requests come over its own sockets."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
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
from quorate.deployments.records.memory_needs import MemoryNeeds
from quorate.deployments.records.registry import Registry
from quorate.deployments.spec.schema import MemberJob
from quorate.fusion.errors import QuorateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quorate.deployments.members.replica import MemberReplica, Place

# It grows with the largest batches, slowly; a look takes some milliseconds.
MEASURE_EVERY_S = 60.0
# Of the code that runs, whatever is installed since.
_VERSION = version("quorate")


class MemberDeployment:
    """One replica of a member, or of several that share a process.

    Args:
        job_json: of one ``MemberJob`` or several, see ``MemberJob.written``.
        files: their ``KeptFiles`` as JSON, which come to this node where it lacks them.
        folder: what the spec's relative paths started from on the machine that it was deployed from.
        start_folder: where the operator stood when deploying; factories are looked for there too.
    """

    def __init__(self, job_json: str, files: str, folder: str, start_folder: str, fingerprint: str):
        bind_serve_to_node()
        jobs = MemberJob.read(job_json)
        self._jobs, self._fingerprint = jobs, fingerprint
        if not any(job.member.resources.num_gpus for job in jobs):
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all GPUs visible to an actor that asked for none
        _forget_folders(Path(folder), Path(start_folder))
        place = _place()
        logs = [
            LogFile(SHARED if job.member.share else job.ensemble, job.name, place.replica_id, place.host)
            for job in jobs
        ]
        self._lives = [SignOfLife(log) for log in logs]
        try:
            self._replica = _started(jobs, KeptFiles.from_json(json.loads(files)), Path(start_folder), place, logs)
        except BaseException:
            for life in self._lives:
                life.end()
            raise
        self._last_stats = (time.monotonic(), 0.0)
        self._measured_at = -math.inf
        self._measure()

    def record_replica_metadata(self) -> dict[str, Any]:
        """Serve passes this on to everyone who holds a handle."""
        return self._replica.address

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Share of the time since the last call spent in forward passes, and how many full batches wait now."""
        now, busy_s = time.monotonic(), self._replica.busy_s
        then, before_s = self._last_stats
        self._last_stats = (now, busy_s)
        share = (busy_s - before_s) / max(now - then, 1e-9)
        queued = self._replica.queued_rows / max(job.member.max_batch_size for job in self._jobs)
        return {"busy_share": min(share, 1.0), "queued_batches": queued}

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        for life in self._lives:
            life.renew(self._replica.held_bytes)
        self._replica.check_health()
        self._measure()

    def _measure(self) -> None:
        """Keep what it needs of memory for whoever plans to start it again; health waits for nobody's store."""
        now = time.monotonic()
        if now - self._measured_at >= MEASURE_EVERY_S:
            self._measured_at = now
            threading.Thread(target=self._note_needs, name="measure", daemon=True).start()

    def _note_needs(self) -> None:
        MemoryNeeds(ClusterStore()).note(self._jobs, self._replica.needs)

    def describe(self) -> dict[str, Any]:
        """For ``quorate status``; of members that share the process also each by itself, under ``members``."""
        import ray

        accelerators = ray.get_runtime_context().get_accelerator_ids()
        members = {member.job.name: member.describe() for member in self._replica.members}
        first = next(iter(members.values()))
        own = {"members": members} if len(members) > 1 else {}
        return {
            "fingerprint": self._fingerprint,
            "replica": self._replica.address["replica_id"],
            "pid": os.getpid(),
            "quorate": _VERSION,
            "node": self._replica.address["node_id"],
            "gpu_ids": accelerators.get("GPU", []),
            "queued_rows": self._replica.queued_rows,
            "busy_s": self._replica.busy_s,
            **first,
            **own,
        }

    def __del__(self) -> None:
        # Serve calls this when it stops the replica, and waits for it.
        if hasattr(self, "_replica"):
            for life in self._lives:
                life.end()
            self._replica.stop()
            end_process_later()


def _started(
    jobs: Sequence[MemberJob], files: KeptFiles, start_folder: Path, place: Place, logs: Sequence[LogFile]
) -> MemberReplica:
    """The replica, which writes into its log; what keeps it from starting too, and says so to the operator.

    What members that share the process print is in the log of the first: nobody can tell whose it is.
    """
    from quorate.deployments.members.replica import MemberReplica
    from quorate.deployments.sources.factory import search_in

    settings = Registry(ClusterStore()).telemetry(jobs[0].ensemble).logs
    for log in logs:
        log.use(settings)
    copy_output(logs[0])
    try:
        folder = bring(files)
        search_in(folder, start_folder)
        return MemberReplica(list(zip(jobs, logs, strict=True)), folder, place)
    except Exception as error:
        for file in drop_damaged(files.files, kept_root() / files.name, content_cache()):
            logs[0].write(f"{file.path} is damaged on this node; it is fetched anew")
        cause = error.__cause__ or error  # the member's own
        log = next(
            (log for log, job in zip(logs, jobs, strict=True) if job.name == getattr(error, "member", "")), logs[0]
        )
        log.write(f"did not start: {error}\n{''.join(traceback.format_exception(cause))}", "error")
        if isinstance(error, MissingArtifactError):
            raise SentError(MemberLoadError.__name__, (jobs[0].name, error.found, error.fix)) from None
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
