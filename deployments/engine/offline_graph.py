"""A spec's graph over many rows in this process, with the code that serves it but without replicas and sockets.

Entry point: ``OfflineGraph(load_spec("digits.yaml"), Path("."), {"image": images}).node("fused").aligned``.
"""

# N rows, C classes, F_m features of member m

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.fusions.presence import OK
from quorate.deployments.engine.graph import fuser_of
from quorate.deployments.members.output_alignment import Alignment
from quorate.deployments.members.predictor import Predictor, join
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.rows.uneven import batches
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.transport.row_state import RowState

Array = NDArray[Any]


@dataclass(frozen=True)
class NodeOutput:
    """What a member or a fusion gave.

    Attributes:
        raw: (N, ...) what a member that reads it is given.
        aligned: (N, C) probabilities, (N, F_m) features or (N, K) values: what a fusion that reads it is given.
        states: (N,) RowState; rows that are not OK are zeros.
    """

    raw: Array
    aligned: NDArray[np.float32]
    states: NDArray[np.uint8]

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N,) rows that may be used."""
        return np.asarray(self.states == OK)


class OfflineGraph:
    """Runs each member and fusion once, when something first reads it."""

    def __init__(self, spec: EnsembleSpec, folder: Path, inputs: Mapping[str, Array]):
        """Args:
        folder: what the spec's paths start from.
        inputs: (N, *shape) each request input that is read; (N,) arrays where rows have other sizes.
        """
        self._spec, self._folder, self._inputs = spec, folder, dict(inputs)
        self._rows = len(next(iter(self._inputs.values())))
        self._done: dict[str, NodeOutput] = {}

    def node(self, name: str) -> NodeOutput:
        """What a member or fusion gives for these rows.

        Raises:
            MemberLoadError: a member that it reads, or itself, cannot be loaded.
            SpecError: a fusion cannot be built.
        """
        if name not in self._done:
            self._done[name] = self._member(name) if name in self._spec.members else self._fusion(name)
        return self._done[name]

    def read_by(self, member: str) -> tuple[dict[str, Array], NDArray[np.uint8]]:
        """What a member is given, by source, and (N,) why a row is not; the first source that fails says why."""
        states = np.full(self._rows, OK, dtype=np.uint8)
        arrays = {}
        for source in self._spec.members[member].inputs:
            if source in self._inputs:
                arrays[source] = self._inputs[source]
                continue
            node = self.node(source)
            arrays[source] = node.raw
            states = np.where(states == OK, node.states, states)
        return arrays, states

    def _member(self, name: str) -> NodeOutput:
        job, (arrays, states) = self._spec.job(name), self.read_by(name)
        ready = np.flatnonzero(states == OK)
        predictor = Predictor(load_model(name, job.member, self._folder), job)
        given = {key: array[ready] for key, array in arrays.items()}
        parts = [predictor.run(batch, False) for batch in batches(given, job.member.max_batch_size)]
        found, found_states = join(parts) if parts else (np.zeros((0, 1), np.float32), states[:0])
        raw = np.zeros((self._rows, *found.shape[1:]), found.dtype)
        raw[ready], states[ready] = found, found_states
        raw[states != OK] = 0
        aligned = Alignment(job.member, job.classes).fusable(raw, states)
        aligned[states != OK] = 0
        return NodeOutput(raw, aligned, states)

    def _fusion(self, name: str) -> NodeOutput:
        fuser = fuser_of(self._spec, name, self._folder)
        replies = {}
        for member in fuser.asked:
            node = self.node(member)
            replies[member] = MemberReply(node.aligned, node.states)
        outputs, states = fuser.gather(replies, self._rows)
        enough = fuser.enough(states)
        if outputs is None or not enough.any():
            nothing = np.zeros((self._rows, 1), np.float32)
            return NodeOutput(nothing, nothing, np.full(self._rows, RowState.ERROR, np.uint8))
        values = fuser.fuse_where(enough, outputs, states == OK, self._inputs).values
        return NodeOutput(values, values, np.where(enough, OK, RowState.ERROR).astype(np.uint8))
