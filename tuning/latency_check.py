"""Was the latency predicted right? An ensemble's members in processes of their own, asked as the graph says, timed.

What Ray's own calls cost is measured beside it, with a member that does nothing, and taken off.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.models import load_model
from quorate.deployments.prediction import Predictor
from quorate.deployments.spec import EnsembleSpec, MemberJob
from quorate.fusion.cascade import Cascade
from quorate.tuning.structures import Structure, Table, cost, fit_rule

_ROWS, _WARM_UP = 60, 10


@dataclass(frozen=True)
class LatencyCheck:
    """Seconds of one request; of a cascade the mean, which is what is predicted, of others the 95th percentile.

    Attributes:
        call_s: of a call that does nothing, taken off the measured time once for each step along the graph.
    """

    predicted_s: float
    measured_s: float
    call_s: float

    @property
    def error_s(self) -> float:
        return self.predicted_s - self.measured_s


def check_latency(
    structure: Structure, spec: EnsembleSpec, folder: Path, table: Table, inputs: Mapping[str, NDArray[Any]]
) -> LatencyCheck:
    """Run a structure on single rows, each member in a Ray actor.

    Args:
        structure: with its deployable ``spec`` in ``folder``.
        table: its predicted cost.
        inputs: request rows.
    """
    import ray

    names = table.closure(structure.members)
    actor: Any = ray.remote(num_cpus=0)(_Member)
    actors = {name: actor.remote(spec.job(name), folder.resolve()) for name in names}
    idle = actor.remote(None, folder)
    ray.get([one.ready.remote() for one in (*actors.values(), idle)])
    rule = fit_rule(structure, table.rows_of(structure.members), table.labels)
    seconds, calls = [], []
    for number in range(_WARM_UP + _ROWS):
        row = {name: array[number % len(array) :][:1] for name, array in inputs.items()}
        started = time.perf_counter()
        ray.get(idle.run.remote(row))
        calls.append(time.perf_counter() - started)
        started = time.perf_counter()
        steps = _ask(actors, table, structure, rule, row)
        seconds.append(time.perf_counter() - started - steps * calls[-1])
    for one in (*actors.values(), idle):
        ray.kill(one)
    predicted = cost(structure, table)["p95_latency_s"]
    kept = np.array(seconds[_WARM_UP:])
    measured = kept.mean() if structure.rule == "cascade" else np.percentile(kept, 95)
    return LatencyCheck(predicted, max(0.0, float(measured)), float(np.median(calls[_WARM_UP:])))


class _Member:
    """One loaded member, or nothing."""

    def __init__(self, job: MemberJob | None, folder: Path):
        torch.set_num_threads(1)
        self._predictor = None if job is None else Predictor(load_model(job.name, job.member, folder), job)
        self._raw = job is not None and job.member.output == "features"

    def ready(self) -> bool:
        return True

    def run(self, row: Mapping[str, NDArray[Any]], probabilities: bool = True) -> Any:
        if self._predictor is None:
            return None
        return self._predictor.run(row, probabilities=probabilities and not self._raw)[0]


def _ask(
    actors: Mapping[str, Any], table: Table, structure: Structure, rule: Any, row: Mapping[str, NDArray[Any]]
) -> int:
    """Ask everybody a row needs; how many calls followed one another."""
    import ray

    if isinstance(rule, Cascade):
        said = torch.full((len(structure.members), 1, table.probs.shape[2]), float("nan"))
        for stage, members in enumerate(structure.stages):
            for name, values in zip(members, ray.get([actors[name].run.remote(row) for name in members]), strict=True):
                said[structure.members.index(name)] = torch.from_numpy(np.array(values))
            if bool(rule.decide(stage, said, torch.isfinite(said).all(dim=-1)).all()):
                return stage + 1
        return len(structure.stages)
    sources = sorted({source for name in structure.members for source in table.column(name).reads})
    known = dict(row)
    if sources:
        answers = ray.get([actors[name].run.remote(row, False) for name in sources])
        known |= dict(zip(sources, answers, strict=True))
    ray.get([actors[name].run.remote(known) for name in structure.members])
    return 2 if sources else 1


def latency_rows(checks: Mapping[str, LatencyCheck]) -> Sequence[Mapping[str, Any]]:
    """For the report."""
    return [
        {
            "pick": place,
            "predicted, ms": check.predicted_s * 1e3,
            "measured, ms": check.measured_s * 1e3,
            "error, ms": check.error_s * 1e3,
            "a call that does nothing, ms": check.call_s * 1e3,
        }
        for place, check in checks.items()
    ]
