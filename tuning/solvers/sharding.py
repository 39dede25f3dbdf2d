"""Solve weights over predictions that stay where they are: shards of rows in Ray actors.

In each round the actors get the weights, or the member just added, and give back sums over their rows: M numbers, M x M
for Newton's curvature. Nothing that travels grows with the rows. The shards' sums are added exactly and rounded once,
so neither the order of answers nor of shards shows in a bit of the result. Entry point::

    with PredictionShards.from_store(store, "validation", names, labels, shards=4) as shards:
        shards.simplex_weights()
        shards.greedy_weights(metric="accuracy")
"""

# M members, N rows, n rows of a shard, C classes

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.tuning.errors import TuningError, from_ray
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.scoring import Floats, check_finite, check_predictions, residual_gram, true_class
from quorate.tuning.solvers.columns import Columns, TrueClass
from quorate.tuning.solvers.greedy import AccuracySums, LogLossSums, SquaredErrorSums, Sums, select
from quorate.tuning.solvers.simplex import solved_log_loss, solved_squared_error
from quorate.tuning.solvers.weights import Weights

Load = Callable[[], tuple[NDArray[Any], NDArray[Any]]]
SHARDED_METRICS = ("log_loss", "brier", "rmse", "accuracy")
# A call to actors takes a thousand times longer than one candidate's sum over a few thousand rows.
_GROUP = 8


class PredictionShards:
    """Predictions in actors, which stop when the ``with`` block ends."""

    def __init__(self, sizes: Sequence[int], members: int, loads: Sequence[Load]):
        """Start one actor for each of ``loads``, which gives (M, n, C) predictions and (n,) labels there.

        Raises:
            PredictionError: an actor could not be started.
        """
        import ray

        self.members, self.rows = members, sum(sizes)
        firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
        shard: Any = ray.remote(_Shard)
        self._actors = [shard.remote(load, first) for load, first in zip(loads, firsts, strict=True)]

    def __enter__(self) -> PredictionShards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor)

    @classmethod
    def from_arrays(cls, probs: ArrayLike, labels: ArrayLike, shards: int = 4) -> PredictionShards:
        """Deal consecutive rows of predictions of this process out to actors.

        Args:
            probs: (M, N, C) probabilities, or (M, N) values.
            labels: (N,) index of the true class, or true values.
            shards: how many actors.
        """
        outputs, truth = np.asarray(probs), np.asarray(labels)
        cuts = _cuts(len(truth), shards)
        loads = [_Given(np.ascontiguousarray(outputs[:, cut]), truth[cut]) for cut in cuts]
        return cls([cut.stop - cut.start for cut in cuts], len(outputs), loads)

    @classmethod
    def from_store(
        cls, store: PredictionStore, split: str, members: Sequence[str], labels: NDArray[np.int64], shards: int = 4
    ) -> PredictionShards:
        """Let actors read consecutive rows of a store themselves; its location must be within their reach."""
        cuts = _cuts(len(labels), shards)
        loads = [_Stored(store, split, tuple(members), cut, labels[cut]) for cut in cuts]
        return cls([cut.stop - cut.start for cut in cuts], len(members), loads)

    def simplex_weights(self, metric: str = "log_loss") -> Weights:
        """As ``quorate.tuning.simplex_weights`` over all shards' rows."""
        if metric not in ("log_loss", "brier", "rmse"):
            fix = "give log_loss, brier or rmse, or use greedy_weights"
            raise TuningError("metric", f"{metric!r} is not convex in the weights", fix)
        if metric == "log_loss":
            return solved_log_loss(self._prepared(metric))
        return solved_squared_error(self._gram(metric), root=metric == "rmse")

    def greedy_weights(self, rounds: int = 25, metric: str = "log_loss") -> Weights:
        """As ``quorate.tuning.greedy_weights`` over all shards' rows; metric one of ``SHARDED_METRICS``."""
        if metric not in SHARDED_METRICS:
            fix = f"give one of {', '.join(SHARDED_METRICS)}: others are no sums over rows"
            raise TuningError("metric", f"{metric!r} cannot be sharded", fix)
        sums: Sums
        if metric == "log_loss":
            sums = LogLossSums(self._prepared(metric))
        elif metric == "accuracy":
            sums = _ShardedAccuracy(self)
        else:
            sums = SquaredErrorSums(self._gram(metric), root=metric == "rmse")
        return sums.scored(select(sums, self.members, rounds).weights(self.members))

    def _prepared(self, metric: str) -> _Remote:
        self.ask("prepare", metric)
        return _Remote(self)

    def _gram(self, metric: str) -> Floats:
        return self.total("gram", metric).reshape(self.members, self.members) / self.rows

    def total(self, method: str, *arguments: Any) -> Floats:
        """The exact sum of the shards' arrays, rounded once."""
        parts = [np.asarray(part) for part in self.ask(method, *arguments)]
        sums = [math.fsum(numbers) for numbers in zip(*(part.ravel().tolist() for part in parts), strict=True)]
        return np.array(sums).reshape(parts[0].shape)

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Every shard's answer.

        Raises:
            PredictionError: the shards' rows cannot be used, or an actor died.
        """
        import ray

        try:
            return list(ray.get([getattr(actor, method).remote(*arguments) for actor in self._actors]))
        except ray.exceptions.RayError as error:
            raise from_ray(error, "shards", "see the cluster's logs, start the shards again") from error


class _Remote:
    """``TrueClass`` over the shards of log-loss."""

    group = _GROUP

    def __init__(self, shards: PredictionShards, stride: int = 1):
        self.shards, self.stride = shards, stride
        self.members = shards.members
        self.rows = shards.rows if stride == 1 else -(-shards.rows // stride)

    def every(self, stride: int) -> TrueClass:
        return _Remote(self.shards, stride)

    def loss(self, weights: Floats) -> float:
        return float(self._total("loss", weights))

    def slopes(self, weights: Floats) -> Floats:
        return self._total("slopes", weights)

    def hessian(self, weights: Floats) -> Floats:
        return self._total("hessian", weights)

    def step(self, weights: Floats, target: Floats, share: float) -> Floats:
        parts = self.shards.ask("columns", self.stride, "step", weights, target, share)
        least = min(part[0] for part in parts)
        return np.array([least, *(math.fsum(part[i] for part in parts) for i in (1, 2))])

    def restart(self) -> None:
        self.shards.ask("columns", self.stride, "restart")

    def add(self, member: int) -> None:
        self.shards.ask("columns", self.stride, "add", member)

    def added_slopes(self, count: int) -> Floats:
        return self._total("added_slopes", count)

    def added_losses(self, count: int, members: Sequence[int]) -> Floats:
        return self._total("added_losses", count, members)

    def _total(self, method: str, *arguments: Any) -> Floats:
        return self.shards.total("columns", self.stride, method, *arguments)


class _ShardedAccuracy:
    """``Sums`` of accuracy: the shards count, their shares of all rows weigh."""

    def __init__(self, shards: PredictionShards):
        self.shards = shards
        shards.ask("prepare", "accuracy")

    def losses(self) -> Floats:
        return 1.0 - self.shards.total("hits") / self.shards.rows

    def add(self, member: int) -> None:
        self.shards.ask("add", member)

    def scored(self, values: Floats) -> Weights:
        return Weights(values, float(self.shards.total("right", values)) / self.shards.rows, None)


class _Shard:
    """The actor: some rows, and the sums over them."""

    def __init__(self, load: Load, first: int):
        self.load, self.first = load, first
        self.rows: dict[int, Columns] = {}
        self.counted: AccuracySums | None = None

    def prepare(self, metric: str) -> None:
        probs, labels = check_predictions(*self.load(), metric)
        if metric == "log_loss":
            self.rows = {1: Columns(true_class(probs, labels), self.first)}
        else:
            check_finite(probs)
            self.counted = AccuracySums(probs, labels)

    def columns(self, stride: int, method: str, *arguments: Any) -> Any:
        if stride not in self.rows:
            self.rows[stride] = self.rows[1].every(stride)
        return getattr(self.rows[stride], method)(*arguments)

    def gram(self, metric: str) -> Floats:
        probs, labels = check_predictions(*self.load(), metric)
        return residual_gram(probs, labels) * len(labels)

    def hits(self) -> NDArray[np.int64]:
        assert self.counted is not None
        return self.counted.hits()

    def add(self, member: int) -> None:
        assert self.counted is not None
        self.counted.add(member)

    def right(self, values: Floats) -> float:
        assert self.counted is not None
        return self.counted.scored(values).score * len(self.counted.labels)


@dataclass(frozen=True)
class _Given:
    """Rows that were sent to the actor."""

    probs: NDArray[Any]
    labels: NDArray[Any]

    def __call__(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.probs, self.labels


@dataclass(frozen=True)
class _Stored:
    """Rows that the actor reads from a store."""

    store: PredictionStore
    split: str
    members: tuple[str, ...]
    rows: slice
    labels: NDArray[np.int64]

    def __call__(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.store.read_rows(self.split, self.members, self.rows), self.labels


def _cuts(rows: int, shards: int) -> list[slice]:
    if not 1 <= shards <= rows:
        raise TuningError("shards", f"{shards} for {rows} rows", f"give 1 to {rows}")
    edges = np.linspace(0, rows, shards + 1).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]
