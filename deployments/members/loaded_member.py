"""A member in this process: loaded and warm, its failures and its spans told of."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from quorate.deployments.logs.failures import Failures
from quorate.deployments.logs.files import LogFile
from quorate.deployments.members.gpu_memory import cap_memory, peak_bytes
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.members.telemetry import MemberTelemetry
from quorate.deployments.records.memory_needs import Needs
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.digests import check_member
from quorate.deployments.spec.schema import MemberJob

# What takes little is timed so often, and what takes longer than this together fewer times.
_TIMES, _TIMED_S = 20, 0.05


class LoadedMember:
    """One of the members that a process runs.

    Attributes:
        failures: of its model on requests.
        model_bytes: that the process keeps since it is loaded.
        log: where it writes.

    Raises:
        SpecError: its files or its code are not those that were deployed.
        MemberLoadError: the model cannot be loaded, or fails on an example.
    """

    def __init__(self, job: MemberJob, folder: Path, replica_id: str, log: LogFile, device: torch.device | None = None):
        """Args:
        device: where it runs; the GPU that the process was given, else the CPU, when None.
        """
        self.job, self.log = job, log
        check_member(job, folder)
        before = resident_bytes()
        self.predictor = Predictor(load_model(job.name, job.member, folder, device), job)
        torch.set_num_threads(self.predictor.threads)
        self.failures = Failures(partial(log.write, level="error"))
        self.predictor.on_failure = self.failures.note
        self.predictor.warm_up()
        self.model_bytes = max(0, resident_bytes(self.predictor.model.pid) - before)
        self.telemetry = MemberTelemetry(f"{job.ensemble}/{job.name}", replica_id, log.use, log.write)

    @property
    def output(self) -> tuple[str, tuple[int, ...]]:
        """Datatype and shape of a row of what its model returns."""
        return self.predictor.datatype, self.predictor.dims

    @property
    def memory(self) -> dict[str, int]:
        """Bytes that the process keeps (resident), that came with the model, and that torch holds of a GPU."""
        device = self.predictor.model.device
        held = torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
        resident = resident_bytes(self.predictor.model.pid)
        return {"resident_bytes": resident, "model_bytes": self.model_bytes, "gpu_bytes": held}

    def describe(self) -> dict[str, Any]:
        """For ``quorate status``."""
        return {
            "device": str(self.predictor.model.device),
            "memory": self.memory,
            "failures": self.failures.count,
            "last_error": self.failures.last,
        }

    def measure_s(self) -> float | None:
        """Seconds that one row takes, one right after the other; None where no example of a row is known."""
        example = self.predictor.example(rows=1)
        if example is None:
            return None
        return timed_s(lambda: self.predictor.run(example, probabilities=True))


def timed_s(work: Callable[[], object], pause_s: float = 0.0) -> float:
    """The median time of something, done some times with pauses."""
    found: list[float] = []
    while len(found) < _TIMES and sum(found) < _TIMED_S:
        time.sleep(pause_s)
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def resident_bytes(*others: int | None) -> int:
    """What this process holds in memory, and others that run its models."""
    resident: int = psutil.Process().memory_info().rss
    for pid in filter(None, others):
        with contextlib.suppress(psutil.NoSuchProcess):
            resident += psutil.Process(pid).memory_info().rss
    return resident


def needs_of_process(members: Sequence[LoadedMember], passes: str) -> Needs:
    """What a process of members has been seen to need so far, and how their passes are run."""
    own: int = psutil.Process().memory_full_info().uss
    for pid in {member.predictor.model.pid for member in members} - {None}:
        with contextlib.suppress(psutil.Error):
            own += psutil.Process(pid).memory_full_info().uss
    return Needs(own, max(peak_bytes(member.predictor.model.device) for member in members), True, passes)


def load_all(jobs: Sequence[tuple[MemberJob, LogFile]], folder: Path, replica_id: str) -> tuple[LoadedMember, ...]:
    """Load the members that a process runs, one after another; one without a GPU of its own stays on the CPU."""

    def device(job: MemberJob) -> torch.device | None:
        return None if len(jobs) == 1 or job.member.resources.num_gpus else torch.device("cpu")

    cap_memory(sum(job.member.resources.num_gpus for job, _ in jobs))
    return tuple(LoadedMember(job, folder, replica_id, log, device(job)) for job, log in jobs)
