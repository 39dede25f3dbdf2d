"""Was the latency predicted right? A pick served, asked one row after another, timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import Resources
from quorate.tuning.latency.curves import Call
from quorate.tuning.latency.local_serving import seconds_of_requests
from quorate.tuning.search.structures.evaluation import cost
from quorate.tuning.search.structures.structure import Structure
from quorate.tuning.search.structures.table import Table

_REQUESTS = 200


@dataclass(frozen=True)
class LatencyCheck:
    """Seconds of one request; of a cascade the mean, which is what is predicted, of others the 95th percentile.

    Attributes:
        serving_s: of the predicted, what serving adds to the members' time.
    """

    predicted_s: float
    measured_s: float
    serving_s: float

    @property
    def error_s(self) -> float:
        return self.predicted_s - self.measured_s


def check_latency(
    structure: Structure, spec: EnsembleSpec, folder: Path, table: Table, inputs: Mapping[str, NDArray[Any]], call: Call
) -> LatencyCheck:
    """Serve a structure, each member in a process of its own, and ask it.

    Args:
        structure: with its deployable ``spec`` in ``folder``.
        table: its predicted cost.
        inputs: request rows.
        call: runs a function where resources are held.
    """
    gpus = sum(member.resources.num_gpus for member in spec.members.values())
    resources = Resources(num_cpus=1.0, num_gpus=min(1.0, gpus))
    rows = {name: np.asarray(array[:_REQUESTS]) for name, array in inputs.items()}
    seconds: NDArray[np.float64] = call(resources, seconds_of_requests, spec, folder.resolve(), rows, _REQUESTS)
    predicted = cost(structure, table)["p95_latency_s"]
    measured = seconds.mean() if structure.rule == "cascade" else np.percentile(seconds, 95)
    alone = cost(structure, table.without_overhead())["p95_latency_s"]
    return LatencyCheck(predicted, float(measured), predicted - alone)


def latency_rows(checks: Mapping[str, LatencyCheck]) -> Sequence[Mapping[str, Any]]:
    """For the report."""
    return [
        {
            "pick": place,
            "predicted, ms": check.predicted_s * 1e3,
            "of it serving, ms": check.serving_s * 1e3,
            "measured, ms": check.measured_s * 1e3,
            "error, ms": check.error_s * 1e3,
        }
        for place, check in checks.items()
    ]
