"""Alternatives for a metric of spans: what least log-loss pools, told to say more or fewer of them; and a vote."""

# M members, N tokens, C classes

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.calibration.calibration import Calibration
from quorate.fusion.sequences.decoding import decode_flat, first_tokens
from quorate.fusion.sequences.span_vote import Ballots
from quorate.fusion.sequences.tags import TagScheme
from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.pools import LinearPool, by_name
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.spans import TrueTags, VoteSearch, biased, outside_bias

Tags = NDArray[np.int64]


class Biases:
    """The bias of O that serves each member best, and its F1 then; of the rows asked for last they are kept."""

    def __init__(self, scheme: TagScheme) -> None:
        self.scheme = scheme
        self._last: tuple[Outputs, list[tuple[float, float]]] | None = None

    def fit(self, outputs: Outputs) -> list[tuple[float, float]]:
        """Of each member."""
        if self._last is None or self._last[0] is not outputs:
            self._last = outputs, [best_bias(member, outputs, self.scheme) for member in outputs.probs]
        return self._last[1]


def best_bias(values: NDArray[Any], outputs: Outputs, scheme: TagScheme) -> tuple[float, float]:
    """The bias of O under which (N, C) answers to these tokens have the largest F1, and that."""
    truth, decode = _true_tags(outputs, scheme)
    return outside_bias(lambda bias: truth.f1(decode(biased(values, bias, scheme))))


@dataclass(frozen=True)
class BiasedSingle:
    """The member of the largest F1 once O has the bias that serves it best, alone."""

    biases: Biases
    name: ClassVar[str] = "decided_single"
    kind: ClassVar[Kind] = "single"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        found = self.biases.fit(outputs)
        best = max(range(len(found)), key=lambda member: found[member][1])
        recipe = Recipe("mean", (outputs.names[best],))
        return replace(recipe, calibration=_calibration(found[best][0], self.biases.scheme))


@dataclass(frozen=True)
class BiasedPool:
    """The mean, or the weighted mean of least log-loss, with the bias of O that has the largest F1."""

    scheme: TagScheme
    name: ClassVar[str] = "decisions"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        recipes = Recipe("mean", outputs.names), LinearPool().fit(outputs, seed)
        found = [best_bias(one.fuse(outputs.names, outputs.probs), outputs, self.scheme) for one in recipes]
        best = int(found[1][1] > found[0][1])
        return replace(recipes[best], calibration=_calibration(found[best][0], self.scheme))


@dataclass(frozen=True)
class SpanVoted:
    """A vote on spans whose weights and threshold have the largest F1; members as they are, or with biases of O."""

    biases: Biases
    name: ClassVar[str] = "span_vote"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        scheme, found = self.biases.scheme, [bias for bias, _ in self.biases.fit(outputs)]
        plain, told = (self._searched(outputs, biases) for biases in ([0.0] * len(found), found))
        (weights, threshold, _), biases = (told, found) if told[2] > plain[2] else (plain, [0.0] * len(found))
        calibrations = {name: _calibration(bias, scheme) for name, bias in zip(outputs.names, biases, strict=True)}
        return Recipe(
            "span_vote", outputs.names, by_name(outputs.names, weights), {"threshold": threshold},
            member_calibration={name: one for name, one in calibrations.items() if one is not None},
            classes=scheme.classes,
        )  # fmt: skip

    def _searched(self, outputs: Outputs, biases: list[float]) -> tuple[Floats, float, float]:
        """Weights, threshold and F1 of a vote of members under these biases."""
        scheme = self.biases.scheme
        truth, decode = _true_tags(outputs, scheme)
        tags = [decode(biased(member, bias, scheme)) for member, bias in zip(outputs.probs, biases, strict=True)]
        search = VoteSearch(Ballots.of(np.stack(tags), truth.first, scheme), truth)
        return (*search.solve(), search.score)


def _calibration(bias: float, scheme: TagScheme) -> Calibration | None:
    """Of a bias of O; none for 0."""
    if not bias:
        return None
    by_class = np.zeros(len(scheme.classes))
    by_class[scheme.outside] = bias
    return Calibration((1.0,), tuple(by_class.tolist()))


def _true_tags(outputs: Outputs, scheme: TagScheme) -> tuple[TrueTags, Callable[[NDArray[Any]], Tags]]:
    """The truth, sequences one behind the other, and how (N, C) probabilities are decoded into that order."""
    sequences = np.arange(len(outputs)) if outputs.sequences is None else outputs.sequences
    order, first = first_tokens(sequences)
    weights = None if outputs.weights is None else outputs.weights[order]
    truth = TrueTags(outputs.labels[order], first, scheme, weights)
    return truth, partial(_decoded, order=order, sequences=sequences, scheme=scheme)


def _decoded(values: NDArray[Any], order: NDArray[np.int64], sequences: NDArray[Any], scheme: TagScheme) -> Tags:
    return decode_flat(values, sequences, scheme)[order]
