"""Run a member where it stands in its ensemble's graph: what it reads of other members is run first."""

# N rows, C classes

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.transport.row_state import RowState
from quorate.tuning.predictions.run_member import Inputs, Runner

if TYPE_CHECKING:
    from quorate.deployments.engine.offline_graph import OfflineGraph


def run_in_graph(spec: EnsembleSpec, name: str, folder: Path, inputs: Inputs, run: Runner) -> NDArray[np.float32]:
    """The member's probabilities or values.

    Args:
        inputs: (N, *shape) each request input.
        run: runs the member itself; what it reads is run in this process.

    Returns:
        (N, C), or (N, K) values; a row that it, or what it reads, failed on is NaN.

    Raises:
        MemberLoadError, SpecError: a part of the graph cannot be built.
        MemberPredictionError: it failed on every row.
    """
    if set(spec.members[name].inputs) <= set(spec.inputs):
        return run(spec.job(name), folder, inputs)
    from quorate.deployments.engine.offline_graph import OfflineGraph

    return run_node(spec, name, folder, OfflineGraph(spec, folder, inputs), run)


def run_node(spec: EnsembleSpec, name: str, folder: Path, graph: OfflineGraph, run: Runner) -> NDArray[np.float32]:
    """The same of a member in a graph whose other nodes may have been run already."""
    arrays, states = graph.read_by(name)
    probs = run(spec.job(name), folder, arrays)
    return np.where((states == RowState.OK)[:, None], probs, np.float32("nan"))
