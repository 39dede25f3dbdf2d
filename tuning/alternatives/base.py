"""The contract of an alternative: fitted on labelled outputs, it answers other rows."""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

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
    """

    names: tuple[str, ...]
    probs: NDArray[Any]
    labels: NDArray[Any]
    weights: NDArray[np.float64] | None = None
    groups: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    sequences: NDArray[Any] | None = None

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
    def of_values(self) -> bool:
        """Whether members predict values, not classes."""
        return bool(self.labels.dtype.kind == "f")

    def rows(self, index: NDArray[Any] | slice) -> Outputs:
        def of(column: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if column is None else column[index]

        return Outputs(
            self.names, self.probs[:, index], self.labels[index], of(self.weights), of(self.groups), of(self.times),
            of(self.sequences),
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
    """(N, C) what it answers these rows."""
    if isinstance(fitted, Recipe) and fitted.classes:
        return fitted.fuse_sequences(outputs.names, outputs.probs, outputs.sequences)
    return fitted.fuse(outputs.names, outputs.probs)


def recipe_of(fitted: Fitted) -> Recipe | None:
    """What a spec would say; None for what no spec can."""
    return fitted if isinstance(fitted, Recipe) else None
