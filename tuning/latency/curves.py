"""How long members take, measured as served, and what that makes of an ensemble.

The slowest of a parallel group, the sum of a chain, the expectation of a cascade.
"""

# B batch

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.atomic_files import write_whole
from quorate.deployments.spec.schema import MemberJob

_RUNS, _RUNS_S, _WARM_UP = 40, 0.25, 3
# Runs ``function(*args)`` in a process that holds resources: call(resources, function, *args).
Call = Callable[..., Any]

_FILE = "measured.json"


@dataclass(frozen=True)
class Curve:
    """One member's forward passes on one device.

    Attributes:
        device: where they ran.
        p50_s, p95_s: seconds of one forward pass, by rows in the batch.
        single_s: seconds of each measured pass of one row, ascending.
    """

    device: str
    p50_s: Mapping[int, float]
    p95_s: Mapping[int, float]
    single_s: tuple[float, ...]

    @property
    def row_s(self) -> float:
        """Device seconds of one row at the batch size that makes best use of the device."""
        return min(seconds / batch for batch, seconds in self.p50_s.items())

    def to_json(self) -> dict[str, Any]:
        return {"device": self.device, "p50_s": dict(self.p50_s), "p95_s": dict(self.p95_s), "single_s": self.single_s}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Curve:
        p50, p95 = ({int(batch): float(s) for batch, s in content[key].items()} for key in ("p50_s", "p95_s"))
        return cls(str(content["device"]), p50, p95, tuple(content["single_s"]))


@dataclass(frozen=True)
class Overhead:
    """Seconds of one request that no member computes in, 95th percentile: batching, the wire there and back, fusing.

    Attributes:
        step_s: of asking members once and waiting for them; a chain asks twice.
        member_s: of each member that is asked.
    """

    step_s: float = 0.0
    member_s: float = 0.0

    def of(self, members: int) -> float:
        """Of one step that asks so many members."""
        return self.step_s + self.member_s * members


@dataclass(frozen=True)
class Measured:
    """What a run measured, kept beside it: a sweep sees one truth, and another may be given the same.

    Attributes:
        members: by name.
        overhead: None where it has not been measured.
    """

    members: Mapping[str, Curve] = field(default_factory=dict)
    overhead: Overhead | None = None

    def save(self, folder: Path) -> None:
        content = {
            "members": {name: curve.to_json() for name, curve in self.members.items()},
            "overhead": None if self.overhead is None else asdict(self.overhead),
        }
        write_whole(folder / _FILE, json.dumps(content, indent=1).encode())


def load_measured(folder: Path) -> Measured:
    """What a run measured; nothing where the file is missing or damaged."""
    try:
        content = json.loads((folder / _FILE).read_bytes())
        members = {name: Curve.from_json(curve) for name, curve in content["members"].items()}
        return Measured(members, None if content["overhead"] is None else Overhead(**content["overhead"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Measured()


def measure(job: MemberJob, folder: Path, inputs: Mapping[str, NDArray[Any]], threads: int = 1) -> Curve:
    """Time a member's forward pass at 1, 2, 4, ... rows up to its ``max_batch_size``, as its replica would run it.

    Args:
        job: the member; what it reads of other members must be in ``inputs`` too.
        folder: what its paths start from.
        inputs: rows to run, at least one; they are repeated to fill a batch.
        threads: of the CPU.

    Raises:
        MemberLoadError: the member cannot be loaded.
    """
    import torch

    from quorate.deployments.members.predictor import Predictor
    from quorate.deployments.sources.loading import load_model

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        predictor = Predictor(load_model(job.name, job.member, folder), job)
        seconds: dict[int, list[float]] = {}
        batch = 1
        while batch <= min(64, job.member.max_batch_size):
            rows = {name: np.resize(inputs[name], (batch, *inputs[name].shape[1:])) for name in job.member.inputs}
            seconds[batch] = sorted(_passes(predictor, rows, probabilities=job.member.output != "features"))
            batch *= 2
    finally:
        torch.set_num_threads(before)  # what the caller does next, training say, is not measured
    p50, p95 = ({batch: float(np.percentile(all_s, q)) for batch, all_s in seconds.items()} for q in (50, 95))
    return Curve(str(predictor.model.device), p50, p95, tuple(seconds[1]))


def _passes(predictor: Any, rows: Mapping[str, NDArray[Any]], probabilities: bool) -> Iterable[float]:
    for _ in range(_WARM_UP):
        predictor.run(rows, probabilities=probabilities)
    until = time.perf_counter() + _RUNS_S
    for number in range(_RUNS):
        started = time.perf_counter()
        if started > until and number >= 5:
            return
        predictor.run(rows, probabilities=probabilities)
        yield time.perf_counter() - started


def measure_members(
    jobs: Sequence[MemberJob], folder: Path, inputs: Mapping[str, NDArray[Any]], call: Call
) -> list[Curve]:
    """Measure members one after the other, each with the resources it asks for: none slows another down.

    Args:
        jobs: the members; what they read of other members must be in ``inputs`` too.
        call: runs a function where these resources are held.
    """
    few = {name: array[:64] for name, array in inputs.items()}
    return [
        call(job.member.resources, measure, job, folder.resolve(), few, max(1, int(job.member.resources.num_cpus)))
        for job in jobs
    ]


def parallel_s(seconds: Iterable[float]) -> float:
    """The slowest member's."""
    return max(seconds)


def chain_s(seconds: Iterable[float]) -> float:
    """One after the other."""
    return sum(seconds)


def cascade_s(stages: Sequence[float], reached: Sequence[float]) -> float:
    """Expected seconds of a row: each stage's, times the share of rows that reach it."""
    return sum(stage * share for stage, share in zip(stages, reached, strict=True))
