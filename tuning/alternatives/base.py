"""The contract of an alternative: fitted on labelled outputs, it answers other rows."""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.fields.types import Task
from quorate.fusion.registry import RULES
from quorate.tuning.alternatives.recipe import Recipe

Kind = Literal["floor", "single", "ensemble"]


@dataclass(frozen=True)
class Outputs:
    """What members say of labelled rows.

    Attributes:
        names: of the M members.
        probs: (M, N, C) probabilities, or (M, N, K) values.
        labels: (N,) index of the true class, or float64 of the true value; (N, K) of several.
        weights: (N,) how much each row counts; None where all count the same.
        groups: (N,) rows of one group belong together; None where each stands alone.
        times: (N,) what came first; None where that does not matter.
        sequences: (N,) rows of one are its tokens, in this order; None where rows are no tokens.
        levels: of the quantiles that the K values are; none where they are no quantiles.
        lists: a row is a list of up to K entries, NaN behind its last one: labels say how relevant each is, members
            score it.
        moments: the values are K means and behind them K variances.
        inputs: (N, D) each, by name: request inputs that a rule may choose members by.
    """

    names: tuple[str, ...]
    probs: NDArray[Any]
    labels: NDArray[Any]
    weights: NDArray[np.float64] | None = None
    groups: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    sequences: NDArray[Any] | None = None
    levels: tuple[float, ...] = ()
    lists: bool = False
    moments: bool = False
    inputs: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        return int(self.probs.shape[2])

    @property
    def truth(self) -> NDArray[np.float64]:
        """(N, K) true values."""
        return np.asarray(self.labels, dtype=np.float64).reshape(len(self.labels), -1)

    @property
    def task(self) -> Task:
        """What members predict. Several labels that each hold or not are told from several values by being 0 or 1."""
        if not self.of_values:
            return "classification"
        if self.levels:
            return "quantiles"
        if self.lists:
            return "ranking"
        return "multilabel" if self.labels.ndim == 2 and np.isin(self.labels, (0, 1)).all() else "regression"

    @property
    def of_values(self) -> bool:
        """Whether members predict values, not classes."""
        return bool(self.labels.dtype.kind == "f")

    def rows(self, index: NDArray[Any] | slice) -> Outputs:
        def of(column: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if column is None else column[index]

        return replace(
            self, probs=self.probs[:, index], labels=self.labels[index], weights=of(self.weights),
            groups=of(self.groups), times=of(self.times), sequences=of(self.sequences),
            inputs={name: column[index] for name, column in self.inputs.items()},
        )  # fmt: skip

    def sample(self, most: int, seed: int) -> Outputs:
        """At most so many rows, drawn by how much they count and counting alike; copies of one are a group."""
        if self.weights is None and len(self) <= most:
            return self
        random = np.random.default_rng(seed)
        if self.weights is None:
            return self.rows(np.sort(random.choice(len(self), most, replace=False)))
        most = min(most, 10 * len(self))  # enough for shares to come out as the weights are
        drawn = np.sort(random.choice(len(self), most, p=self.weights / self.weights.sum()))
        return replace(self.rows(drawn), weights=None, groups=drawn if self.groups is None else self.groups[drawn])


def as_lists(rows: Outputs, queries: NDArray[Any]) -> Outputs:
    """Rows of one query as one list, in the order of the queries; what else is known of a list is its first row's.

    Args:
        rows: with one value each.
        queries: (N,) what each row belongs to.
    """
    _, first, place = np.unique(queries, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    order = np.argsort(place, kind="stable")
    lengths = np.bincount(place)
    column = np.arange(len(rows)) - np.repeat(lengths.cumsum() - lengths, lengths)
    labels = np.full((len(lengths), int(lengths.max())), np.nan)
    probs = np.full((len(rows.names), *labels.shape), np.nan, dtype=np.float32)
    labels[place[order], column] = rows.labels[order]
    probs[:, place[order], column] = rows.probs[:, order, 0]
    return replace(rows.rows(first), probs=probs, labels=labels, lists=True)


def joined(first: Outputs, second: Outputs) -> Outputs:
    """The rows of both, of the same members; what one of them does not know of its rows is not known of all."""

    def both(name: str) -> NDArray[Any] | None:
        columns = [getattr(part, name) for part in (first, second)]
        return None if any(column is None for column in columns) else np.concatenate(columns)

    width = max(first.classes, second.classes)  # lists are as wide as their longest
    probs = np.concatenate([_widened(part.probs, width) for part in (first, second)], axis=1)
    labels = [_widened(part.labels, width) if first.lists else part.labels for part in (first, second)]
    inputs = {
        name: np.concatenate([column, second.inputs[name]])
        for name, column in first.inputs.items()
        if name in second.inputs
    }
    return replace(
        first, probs=probs, labels=np.concatenate(labels), weights=both("weights"), groups=both("groups"),
        times=both("times"), sequences=_apart(first.sequences, second.sequences), inputs=inputs,
    )  # fmt: skip


def _apart(first: NDArray[Any] | None, second: NDArray[Any] | None) -> NDArray[np.intp] | None:
    """(N + J,) numbers of sequences, none of which is in both, however they are numbered."""
    if first is None or second is None:
        return None
    ours, theirs = (np.unique(some, return_inverse=True)[1].reshape(-1) for some in (first, second))
    return np.concatenate([ours, theirs + int(ours.max()) + 1])


def _widened(array: NDArray[Any], width: int) -> NDArray[Any]:
    """The last axis filled up with NaN."""
    missing = width - array.shape[-1]
    if not missing:
        return array
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)], constant_values=np.nan)


class Fitted(Protocol):
    """An alternative whose numbers are there."""

    def fuse(self, names: Sequence[str], probs: NDArray[Any]) -> NDArray[np.float32]:
        """(M, N, C) of the members ``names`` to (N, C)."""


class Alternative(Protocol):
    """One way to answer.

    Attributes:
        name: what results call it; a member's own name where it is that member.
        kind: ``floor`` needs no member, ``single`` asks one, ``ensemble`` several.
        fitted: whether rows teach it anything; otherwise it is the same on any.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def fitted(self) -> bool: ...

    def fit(self, outputs: Outputs, seed: int) -> Fitted:
        """Fit on these rows; the same seed gives the same.

        Raises:
            QuorateError: it cannot be fitted on them.
        """


def answers_of(fitted: Fitted, outputs: Outputs) -> NDArray[np.float32]:
    """(N, C) what it answers these rows; to lists each by itself, NaN behind its last entry."""
    if isinstance(fitted, Recipe) and fitted.classes:
        return fitted.fuse_sequences(outputs.names, outputs.probs, outputs.sequences)
    if isinstance(fitted, Recipe) and RULES[fitted.rule].reads_inputs:
        return fitted.fuse(outputs.names, outputs.probs, inputs=outputs.inputs)
    if not outputs.lists:
        return fitted.fuse(outputs.names, outputs.probs)
    found = np.full(outputs.labels.shape, np.nan, dtype=np.float32)
    lengths = (~np.isnan(outputs.labels)).sum(axis=1)
    for length in np.unique(lengths):  # lists of a length side by side: a request is a list of so many rows
        rows = np.flatnonzero(lengths == length)
        entries = outputs.probs[:, rows, :length].transpose(0, 2, 1)
        found[rows, :length] = fitted.fuse(outputs.names, np.ascontiguousarray(entries)).T
    return found


def recipe_of(fitted: Fitted) -> Recipe | None:
    """What a spec would say; None for what no spec can."""
    return fitted if isinstance(fitted, Recipe) else None
