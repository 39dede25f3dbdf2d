"""What is made of each output of an ensemble by itself, put together into one run that can be deployed and promoted."""

# N rows

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import save_spec
from quorate.tuning.runs.one_output import put_together
from quorate.tuning.runs.probe import PROBE_ROWS, save_output_probes
from quorate.tuning.runs.run_folder import SPEC, save_deployable


@dataclass(frozen=True)
class OutputPart:
    """An ensemble that answers one output.

    Attributes:
        folder: where it is deployable from, inside of the run's folder.
    """

    spec: EnsembleSpec
    folder: Path


def write_parts(
    spec: EnsembleSpec, source: Path, where: Path, parts: Mapping[str, OutputPart], inputs: Mapping[str, NDArray[Any]]
) -> EnsembleSpec:
    """Write the whole ensemble, outputs without a part as they were, and what it answers to the first rows.

    Args:
        source: what the spec's paths start from.
        where: the run's folder.
        inputs: (N, *shape) by request input.
    """
    given = save_deployable(spec, source, where)
    placed = {output: (part.spec, part.folder.relative_to(where).as_posix()) for output, part in parts.items()}
    written = put_together(given, placed)
    save_spec(written, where / SPEC)
    some = {name: array[:PROBE_ROWS] for name, array in inputs.items()}
    graph = OfflineGraph(written, where, some)
    nodes = {output: graph.node(output) for output in written.outputs}
    rows = np.flatnonzero(np.all([node.present for node in nodes.values()], axis=0))
    if len(rows):
        answers = {output: node.aligned[rows] for output, node in nodes.items()}
        save_output_probes(where, written, {name: array[rows] for name, array in some.items()}, answers, {})
    return written
