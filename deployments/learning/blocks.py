"""Answers side by side in arrays, as they are fused: what is copied on the event loop, a microsecond or two a batch."""

# M members (layers of what a rule reads), N nodes (members asked, too), B rows of a batch, R rows of a block

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.requests.request import Request, Signature
from quorate.deployments.engine.revision import Revision
from quorate.deployments.routing.reply import MemberReply
from quorate.fusion.base import FusedArrays

Array = NDArray[Any]
# A block is handed over when it is as large as this, or has so many rows.
BLOCK_BYTES, BLOCK_ROWS = 1 << 20, 4096
# Of one answer beside its rows: its id, when it was given.
ANSWER_BYTES = 160


class BlockKind(NamedTuple):
    """What stands in one block together.

    Attributes:
        layers: M, of what the rule reads; one where it reads features side by side.
        nodes: N, those whose states are kept.
        shape: of what a layer gave of a row, and ``fused`` of what was fused.
        abstains: whether the rule may decline a row.
        inputs: of the requests, where they are kept.
    """

    revision: str
    output: str
    layers: int
    nodes: int
    shape: tuple[int, ...]
    fused: tuple[int, ...]
    abstains: bool
    inputs: Signature = ()

    @classmethod
    def of(
        cls, revision: Revision, outputs: Array, states: Array, fused: FusedArrays, inputs: Signature = ()
    ) -> BlockKind:
        """Where rows stand that were fused together; see ``Watcher.keep``."""
        return cls(
            revision.name, revision.graph.output.name, len(outputs), len(states), outputs.shape[2:],
            fused.values.shape[1:], fused.abstained is not None, inputs,
        )  # fmt: skip


@dataclass
class Block:
    """Rows of answers of one kind.

    Attributes:
        revision: that gave them.
        outputs: (M, R, ...) of members, states (N, R), values (R, ...) as they were fused, coverage (R,).
        calls: (R,) rows of one number were fused together, and stand in their order.
        times: (R,) in seconds since 1970.
        ids: of each answer, and ``counts`` how many rows it has.
        inputs: of each request, where they are kept.
        upstream: what members gave that other members read, batch by batch.
        rows: how many there are.
    """

    kind: BlockKind
    revision: Revision
    capacity: int
    rows: int = 0
    ids: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    inputs: list[Mapping[str, Array]] = field(default_factory=list)
    upstream: list[Mapping[str, Array]] = field(default_factory=list)
    input_bytes: int = 0

    def __post_init__(self) -> None:
        kind, rows = self.kind, self.capacity
        self.outputs = np.empty((kind.layers, rows, *kind.shape), np.float32)
        self.states = np.empty((kind.nodes, rows), np.uint8)
        self.values = np.empty((rows, *kind.fused), np.float32)
        self.coverage, self.times = np.empty(rows, np.float32), np.empty(rows, np.float64)
        self.abstained = np.zeros(rows, np.bool_) if kind.abstains else None
        self.calls = np.empty(rows, np.int64)

    @classmethod
    def of(cls, kind: BlockKind, revision: Revision, rows: int) -> Block:
        """An empty one that has room for at least so many rows."""
        row_bytes = 4 * (kind.layers * math.prod(kind.shape) + math.prod(kind.fused)) + kind.nodes + 29
        return cls(kind, revision, max(min(BLOCK_ROWS, BLOCK_BYTES // row_bytes), rows))

    @property
    def nbytes(self) -> int:
        """What it holds."""
        fixed = self.outputs.nbytes + self.states.nbytes + self.values.nbytes + 20 * self.capacity
        return fixed + ANSWER_BYTES * len(self.ids) + self.input_bytes

    def add(
        self, call: int, outputs: Array, states: Array, fused: FusedArrays, answered: Sequence[tuple[Request, int]],
        upstream: Mapping[str, MemberReply], start: int,
    ) -> None:  # fmt: skip
        """Take in what was fused together; see ``Keeper.keep``."""
        now, rows = time.time(), sum([request.rows for request, _ in answered])
        if rows == outputs.shape[1]:
            self._add_rows(call, now, slice(0, rows), outputs, states, fused, upstream, start)
        else:
            for request, at in answered:
                mine = slice(at, at + request.rows)
                self._add_rows(call, now, mine, outputs, states, fused, upstream, start)
        for request, _ in answered:
            self.ids.append(request.answer_id)
            self.counts.append(request.rows)
            if self.kind.inputs:
                self.inputs.append(request.inputs)
                self.input_bytes += request.nbytes

    def _add_rows(
        self, call: int, now: float, rows: slice, outputs: Array, states: Array, fused: FusedArrays,
        upstream: Mapping[str, MemberReply], start: int,
    ) -> None:  # fmt: skip
        at = self.rows
        to = self.rows = at + rows.stop - rows.start
        self.outputs[:, at:to] = outputs[:, rows]
        self.states[:, at:to] = states[:, rows]
        self.values[at:to] = fused.values[rows]
        self.coverage[at:to] = fused.coverage[rows]
        self.times[at:to], self.calls[at:to] = now, call
        if self.abstained is not None and fused.abstained is not None:
            self.abstained[at:to] = fused.abstained[rows]
        if upstream:
            there = slice(start + rows.start, start + rows.stop)
            self.upstream.append({n: r.values[there] for n, r in upstream.items() if r.values is not None})


class OpenBlocks:
    """Blocks that are being filled, one of each kind."""

    def __init__(self, on_full: Callable[[Block], None]):
        """Args:
        on_full: gets a block that is filled no more.
        """
        self._on_full, self._blocks = on_full, dict[BlockKind, Block]()

    def __len__(self) -> int:
        return len(self._blocks)

    def with_room(self, kind: BlockKind, rows: int) -> Block | None:
        """The one of a kind; None where there is none, or was none with room for so many rows."""
        block = self._blocks.get(kind)
        if block is not None and block.rows + rows > block.capacity:
            self.end(kind)
            return None
        return block

    def begin(self, kind: BlockKind, revision: Revision, rows: int) -> Block:
        """A new one of a kind, that has room for so many rows at least."""
        block = self._blocks[kind] = Block.of(kind, revision, rows)
        return block

    def end(self, kind: BlockKind) -> None:
        """Fill the one of a kind no more."""
        self._on_full(self._blocks.pop(kind))

    def end_all(self) -> None:
        """Fill none of them any more."""
        for kind in list(self._blocks):
            self.end(kind)

    def clear(self) -> None:
        """Forget them."""
        self._blocks.clear()
