"""What members cost to serve, measured as they are served, for a verdict that counts milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.rows.uneven import runs
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.price import Price
from quorate.tuning.latency.curves import Call, Curve, measure

_ROWS, _MS = 64, 1e3


def call_here(resources: Any, function: Any, *args: Any) -> Any:
    """A ``Call`` in this process, whatever the resources."""
    return function(*args)


@dataclass(frozen=True)
class Prices:
    """What a millisecond counts, in the unit of the metric.

    Attributes:
        latency: of the slowest path to the answer, 95th percentile of a row alone.
        device: of all members that compute, a row at their best batch size.
        call: runs a function where a member's resources are held, to measure it.
    """

    latency: float = 0.0
    device: float = 0.0
    call: Call = call_here

    def __post_init__(self) -> None:
        if not (0 <= self.latency < np.inf and 0 <= self.device < np.inf):
            fix = "give numbers of 0 or more, in the metric's unit for a millisecond"
            raise TuningError("latency_price, device_price", f"{self.latency:g} and {self.device:g}", fix)

    @property
    def counted(self) -> bool:
        """Whether anything has to be measured."""
        return self.latency > 0 or self.device > 0

    def measured(self, spec: EnsembleSpec, folder: Path, inputs: Mapping[str, NDArray[Any]]) -> Price:
        """Measure the members of the fusion, and those that they read.

        Args:
            inputs: request inputs of some rows.
        """
        few = {name: array[:_ROWS] for name, array in inputs.items()}
        graph = OfflineGraph(spec, folder, few)
        behind = {name: _members(spec, spec.upstream(name)) | {name} for name in spec.output_fusion.members}
        curves: dict[str, Curve] = {}
        for name in sorted(frozenset[str]().union(*behind.values())):
            job, arrays = spec.job(name), next(runs(graph.read_by(name)[0]))
            threads = max(1, int(job.member.resources.num_cpus))
            curves[name] = self.call(job.member.resources, measure, job, folder.resolve(), arrays, threads)

        def path_ms(name: str) -> float:
            """Of a member or a fusion with the slowest of what it waits for; a fusion itself takes no time."""
            sources = [source for source in spec.sources(name) if source not in spec.inputs]
            own = curves[name].p95_s[1] * _MS if name in curves else 0.0
            return own + max(map(path_ms, sources), default=0.0)

        latency = {name: path_ms(name) for name in behind}
        return Price(self.latency, self.device, latency, {n: c.row_s * _MS for n, c in curves.items()}, behind)


def _members(spec: EnsembleSpec, nodes: frozenset[str]) -> frozenset[str]:
    return nodes & frozenset(spec.members)
