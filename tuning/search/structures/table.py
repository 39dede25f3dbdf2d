"""Stored predictions and measured cost of every candidate: all that a structure's evaluation reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.latency.curves import Curve, Overhead, chain_s, parallel_s


@dataclass(frozen=True)
class Column:
    """One member in one format: its column of the table.

    Attributes:
        reads: other members whose outputs it reads.
        gpus: share of a GPU it holds while it runs; 0 on a CPU, where the core's seconds are counted.
    """

    name: str
    curve: Curve
    memory_bytes: int
    reads: tuple[str, ...] = ()
    gpus: float = 0.0


@dataclass(frozen=True)
class Table:
    """Stored predictions and measured cost, all that a structure's evaluation reads.

    Attributes:
        columns: K of them; a trunk has cost but no predictions, its ``probs`` are NaN.
        probs: (K, N, C) float32.
        labels: (N,).
        overhead: what serving adds to the members' time.
        batch: rows that the latency is told for.
    """

    columns: tuple[Column, ...]
    probs: NDArray[np.float32]
    labels: NDArray[np.int64]
    overhead: Overhead = field(default_factory=Overhead)
    batch: int = 1

    @cached_property
    def place(self) -> dict[str, int]:
        return {column.name: index for index, column in enumerate(self.columns)}

    def column(self, name: str) -> Column:
        return self.columns[self.place[name]]

    def rows_of(self, names: Sequence[str]) -> NDArray[np.float32]:
        """(M, N, C)."""
        return self.probs[[self.place[name] for name in names]]

    def closure(self, names: Sequence[str]) -> list[str]:
        """The members and all they read, each once."""
        found: list[str] = []
        for name in names:
            found += [one for one in [*self.closure(self.column(name).reads), name] if one not in found]
        return found

    def latency_s(self, name: str) -> float:
        """95th percentile of a member with what it waits for."""
        column = self.column(name)
        return chain_s([self._asked_s(column.reads), column.curve.p95_s[self.batch]])

    def step_s(self, names: Sequence[str]) -> float:
        """Of members asked side by side, each with what it waits for."""
        return chain_s([self.overhead.of(len(names)), parallel_s([self.latency_s(name) for name in names])])

    def _asked_s(self, reads: Sequence[str]) -> float:
        return self.step_s(reads) if reads else 0.0

    def serving_s(self, names: Sequence[str]) -> float:
        """What serving adds for members asked side by side, along the longest way below them."""
        return self.overhead.of(len(names)) + max(
            (self.serving_s(reads) for name in names if (reads := self.column(name).reads)), default=0.0
        )

    def without_overhead(self) -> Table:
        return replace(self, overhead=Overhead())
