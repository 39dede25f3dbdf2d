"""Sums over rows of each member's probability of the true class: all that log-loss reads of predictions.

The solvers ask for these sums and never for rows, so the rows may lie in this process or in many others: what is
passed has the size of the members, whatever the number of rows.
"""

# M members, N rows, T (M, N) each member's probability of the true class

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.scoring import Floats


class TrueClass(Protocol):
    """Rows, wherever they lie.

    Attributes:
        members: M.
        rows: N.
        group: how many candidates are worth asking about in one call; 1 where a call costs nothing.
    """

    @property
    def members(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def group(self) -> int: ...

    def every(self, stride: int) -> TrueClass:
        """Every ``stride``-th row, of all rows in their order."""

    def loss(self, weights: Floats) -> float:
        """Sum of -log(w'T)."""

    def slopes(self, weights: Floats) -> Floats:
        """(M,) sums of T / w'T, minus the gradient of the loss."""

    def hessian(self, weights: Floats) -> Floats:
        """(M, M) sum of the outer products of T / w'T."""

    def step(self, weights: Floats, target: Floats, share: float) -> Floats:
        """Of r = 1 + share * (t - w)'T / w'T: the least, the sum of logs, and the sum of (t - w)'T / w'T."""

    def restart(self) -> None:
        """Forget the members added."""

    def add(self, member: int) -> None:
        """Add a member, with replacement, to those that ``added_*`` speak of."""

    def added_slopes(self, count: int) -> Floats:
        """(M + 1,) the loss of the mean of the ``count`` members added, and T's sums over that mean."""

    def added_losses(self, count: int, members: Sequence[int]) -> Floats:
        """Sum of -log of the mean of the ``count`` added members and one more, for each of ``members``."""


class Columns:
    """Rows in this process."""

    group = 1

    def __init__(self, columns: NDArray[Any], first: int = 0, counts: Floats | None = None):
        """
        Args:
            columns: T (M, N), above 0, in float64, or in float32 for half of the memory.
            first: the number of its first row among all rows.
            counts: (N,) how much each row counts, 1 in the mean; None where all count 1.
        """
        self.columns, self.first, self.counts = columns, first, counts
        self.members, self.rows = columns.shape
        self._total = np.zeros(0)

    def every(self, stride: int) -> Columns:
        some = slice(-self.first % stride, None, stride)
        counts = None if self.counts is None else self.counts[some] / self.counts[some].mean()
        return Columns(np.ascontiguousarray(self.columns[:, some]), 0, counts)

    def loss(self, weights: Floats) -> float:
        return -self._sum(np.log(self._mixed(weights)))

    def slopes(self, weights: Floats) -> Floats:
        return self._summed((1.0 if self.counts is None else self.counts) / self._mixed(weights))

    def hessian(self, weights: Floats) -> Floats:
        fused = self._mixed(weights)
        if self.counts is not None:
            fused = fused / np.sqrt(self.counts)
        hessian = np.zeros((self.members, self.members))
        for some in self._blocks():
            scaled = self.columns[:, some] / fused[some]
            hessian += scaled @ scaled.T
        return hessian

    def step(self, weights: Floats, target: Floats, share: float) -> Floats:
        fused = self._mixed(weights)
        change = (self._mixed(target) - fused) / fused
        moved = 1 + share * change
        least = float(moved.min(initial=np.inf))
        logs = self._sum(np.log(moved)) if least > 0 else -np.inf
        return np.array([least, logs, self._sum(change)])

    def restart(self) -> None:
        self._total = np.zeros(self.rows)

    def add(self, member: int) -> None:
        self._total += self.columns[member]

    def added_slopes(self, count: int) -> Floats:
        mean = self._total / count
        counts = 1.0 if self.counts is None else self.counts
        return np.append(-self._sum(np.log(mean)), self._summed(counts / mean))

    def added_losses(self, count: int, members: Sequence[int]) -> Floats:
        logs = [self._sum(np.log(self._total + self.columns[member])) for member in members]
        return np.asarray(self.rows * np.log(count + 1) - np.array(logs))

    def _blocks(self) -> Iterator[slice]:
        """Of rows: what a second-level cache holds, and all that columns in float32 are copied of at once."""
        size = max(256, 2**17 // self.members)
        return (slice(start, start + size) for start in range(0, self.rows, size))

    def _mixed(self, weights: Floats) -> Floats:
        """(N,) w'T."""
        if self.columns.dtype == np.float64:
            return np.asarray(weights @ self.columns)
        mixed = np.empty(self.rows)
        for some in self._blocks():
            mixed[some] = weights @ self.columns[:, some]
        return mixed

    def _summed(self, terms: Floats) -> Floats:
        """(M,) sums over rows of T times these (N,)."""
        if self.columns.dtype == np.float64:
            return np.asarray(self.columns @ terms)
        total = np.zeros(self.members)
        for some in self._blocks():
            total += self.columns[:, some] @ terms[some]
        return total

    def _sum(self, terms: Floats) -> float:
        return float(terms.sum() if self.counts is None else self.counts @ terms)
