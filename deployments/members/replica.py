"""What a process of a member runs: one model on one device, one inference thread, a socket file and a port."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.logs.failures import Failures
from quorate.deployments.logs.files import LogFile
from quorate.deployments.members.garbage_collection import spare_loaded
from quorate.deployments.members.inference_loop import InferenceLoop
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.members.telemetry import MemberTelemetry
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.digests import check_member
from quorate.deployments.spec.schema import MemberJob
from quorate.deployments.transport.connection import Listener
from quorate.deployments.transport.keys import ClusterKeys
from quorate.deployments.transport.tcp import TcpListener
from quorate.deployments.transport.unix import UnixListener, remove_dead_sockets

# A replica that is told to stop takes calls for this long yet: its successor is known everywhere before it leaves.
HANDOVER_S = 1.0
DRAIN_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Place:
    """Where a replica runs, and how others reach it.

    Attributes:
        socket_folder: for the socket file that fusion replicas of its node use.
        keys: of the cluster; those of other nodes prove that they have them.
    """

    replica_id: str
    node_id: str
    host: str
    socket_folder: Path
    keys: ClusterKeys


class MemberReplica:
    """Loads and warms up the model, then answers batches until it is stopped.

    Attributes:
        address: what a fusion replica needs to know to reach it; see ``routing.replica.Address``.
        failures: of its model on requests.

    Raises:
        SpecError: its files or its code are not those that were deployed.
        MemberLoadError: the model cannot be loaded, or fails on an example.
    """

    def __init__(self, job: MemberJob, folder: Path, place: Place, log: LogFile):
        started = time.monotonic()
        threads = max(1, int(job.member.resources.num_cpus))
        torch.set_num_threads(threads)
        self._job = job
        check_member(job, folder)
        before = _resident_bytes(None)
        self._predictor = Predictor(load_model(job.name, job.member, folder), job)
        self._log, self.failures = log, Failures(partial(log.write, level="error"))
        self._predictor.on_failure = self.failures.note
        self._predictor.warm_up()
        self._model_bytes = max(0, self._held_bytes - before)
        self._check_first_memory()
        listeners = self._listen(place)
        self._telemetry = MemberTelemetry(f"{job.ensemble}/{job.name}", place.replica_id, log.use, log.write)
        self._inference = InferenceLoop(
            self._predictor, job.member.inputs, job.member.max_batch_size, listeners, threads, self._telemetry
        )
        spare_loaded()
        self._inference.start()
        log.write(f"serves on {self.device}, after {time.monotonic() - started:.1f} s")

    def _listen(self, place: Place) -> list[Listener]:
        between_nodes = TcpListener(place.host, place.keys.for_server())
        remove_dead_sockets(place.socket_folder)
        path = place.socket_folder / place.replica_id
        self.address: dict[str, Any] = {
            "replica_id": place.replica_id,
            "node_id": place.node_id,
            "path": str(path),
            "host": place.host,
            "port": between_nodes.port,
            "datatype": self._predictor.datatype,
            "dims": self._predictor.dims,
        }
        return [UnixListener(path), between_nodes]

    @property
    def busy_s(self) -> float:
        """Time spent in forward passes so far."""
        return self._inference.busy_s

    @property
    def queued_rows(self) -> int:
        return self._inference.queued_rows

    @property
    def device(self) -> str:
        return str(self._predictor.model.device)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes that the process keeps (resident), that came with its model, and that torch holds of a GPU."""
        on_gpu = self._predictor.model.device.type == "cuda"
        held = torch.cuda.memory_reserved(self._predictor.model.device) if on_gpu else 0
        return {"resident_bytes": self._held_bytes, "model_bytes": self._model_bytes, "gpu_bytes": held}

    def check_health(self) -> None:
        """Raise RuntimeError when the process had better be replaced."""
        self._log.touch()
        stalled_s = self._inference.stalled_s()
        if stalled_s > self._job.member.stall_timeout_s:
            raise RuntimeError(f"member '{self._job.name}' has made no progress for {stalled_s:.0f} s")
        if self._predictor.device_lost:
            raise RuntimeError(f"member '{self._job.name}' lost its device: {self._predictor.last_error}")
        if not self._inference.is_alive():
            raise RuntimeError(f"member '{self._job.name}' has no inference thread any more")
        if held := self._bytes_over_limit():
            limit = self._job.member.max_memory_bytes
            raise RuntimeError(
                f"member '{self._job.name}' holds {held:,} bytes, over its max_memory_bytes of {limit:,}"
            )

    def _check_first_memory(self) -> None:
        """A limit that the model alone passes would have replicas replaced for ever."""
        if held := self._bytes_over_limit():
            limit = self._job.member.max_memory_bytes
            found = f"max_memory_bytes is {limit:,} but a replica holds {held:,} once its model is loaded"
            raise MemberLoadError(self._job.name, found, "give the limit room for requests, or remove it")

    def _bytes_over_limit(self) -> int:
        """What the process holds where that is more than it may; else 0."""
        limit = self._job.member.max_memory_bytes
        held = 0 if limit is None else self._held_bytes
        return held if limit is not None and held > limit else 0

    @property
    def _held_bytes(self) -> int:
        return _resident_bytes(self._predictor.model.pid)

    def stop(self) -> None:
        """Answer what comes while others learn of the successor, finish, and leave."""
        if self._inference.is_alive():
            time.sleep(HANDOVER_S)
            self._inference.drain(timeout_s=DRAIN_TIMEOUT_S)
        self._telemetry.close()


def _resident_bytes(other: int | None) -> int:
    """What this process holds in memory, and another that runs its model."""
    resident: int = psutil.Process().memory_info().rss
    with contextlib.suppress(psutil.NoSuchProcess):
        resident += psutil.Process(other).memory_info().rss if other is not None else 0
    return resident
