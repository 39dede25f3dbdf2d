"""Alternatives with nothing to learn but, for the floor, how frequent classes are."""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.errors import TuningError

CLASS_FREQUENCIES, UNIFORM, INCUMBENT = "class_frequencies", "uniform", "incumbent"


@dataclass(frozen=True)
class Frequencies:
    """The same probabilities whatever the members say."""

    shares: NDArray[np.float64]

    def fuse(self, names: Sequence[str], probs: NDArray[Any]) -> NDArray[np.float32]:
        return np.tile(self.shares.astype(np.float32), (probs.shape[1], 1))


@dataclass(frozen=True)
class ClassFrequencies:
    """Guess by how often each class occurs, one row of each added (Laplace): below it nothing is worth serving."""

    name: ClassVar[str] = CLASS_FREQUENCIES
    kind: ClassVar[Kind] = "floor"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Frequencies:
        counts = np.bincount(outputs.labels, outputs.weights, minlength=outputs.classes) + 1.0
        return Frequencies(counts / counts.sum())


@dataclass(frozen=True)
class Member:
    """One member alone."""

    name: str
    kind: ClassVar[Kind] = "single"
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return Recipe("mean", (self.name,))


@dataclass(frozen=True)
class Uniform:
    """The mean of all members."""

    name: ClassVar[str] = UNIFORM
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return Recipe("mean", outputs.names)


@dataclass(frozen=True)
class Incumbent:
    """The spec's fusion as it is."""

    recipe: Recipe
    name: str = INCUMBENT
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return self.recipe


@dataclass(frozen=True)
class Answered:
    """Something that answered certain rows already, and no others.

    Attributes:
        members: how many it asked; 0 where that is not known.
    """

    name: str
    kind: Kind = "ensemble"
    members: int = 0
    fitted: ClassVar[bool] = False

    def fit(self, outputs: Outputs, seed: int) -> Given:
        raise TuningError(self.name, "it has answers and no more", "compare them with compare_answers")


@dataclass(frozen=True)
class Given:
    """Those answers, (N, C)."""

    answers: NDArray[np.float32]

    def fuse(self, names: Sequence[str], probs: NDArray[Any]) -> NDArray[np.float32]:
        return self.answers
