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
from quorate.tuning.solvers.spans import TrueTags, VoteSearch, decoded_with, outside_bias

Tags = NDArray[np.int64]


@dataclass(frozen=True)
class BiasedSingle:
    """The member of the largest F1 once O has the bias that serves it best, alone."""

    scheme: TagScheme
    name: ClassVar[str] = "decided_single"
    kind: ClassVar[Kind] = "single"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return _best_biased([Recipe("mean", (name,)) for name in outputs.names], outputs, self.scheme)


@dataclass(frozen=True)
class BiasedPool:
    """The mean, or the weighted mean of least log-loss, with the bias of O that has the largest F1."""

    scheme: TagScheme
    name: ClassVar[str] = "decisions"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        return _best_biased([Recipe("mean", outputs.names), LinearPool().fit(outputs, seed)], outputs, self.scheme)


@dataclass(frozen=True)
class SpanVoted:
    """A vote on spans whose weights and threshold have the largest F1."""

    scheme: TagScheme
    name: ClassVar[str] = "span_vote"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        truth, decode = _true_tags(outputs, self.scheme)
        tags = np.stack([decode(member) for member in outputs.probs])
        weights, threshold = VoteSearch(Ballots.of(tags, truth.first, self.scheme), truth).solve()
        named, options = by_name(outputs.names, weights), {"threshold": threshold}
        return Recipe("span_vote", outputs.names, named, options, classes=self.scheme.classes)


def _best_biased(recipes: list[Recipe], outputs: Outputs, scheme: TagScheme) -> Recipe:
    """The recipe of the largest F1, its bias of O with it; of several the first."""
    truth, decode = _true_tags(outputs, scheme)
    found = []
    for recipe in recipes:
        fused = recipe.fuse(outputs.names, outputs.probs)
        bias, f1 = outside_bias(lambda bias, fused=fused: truth.f1(decoded_with(fused, bias, scheme, decode)))  # type: ignore[misc]
        found.append((f1, bias, recipe))
    _, bias, recipe = max(found, key=lambda one: one[0])
    if not bias:
        return recipe
    by_class = np.zeros(len(scheme.classes))
    by_class[scheme.outside] = bias
    return replace(recipe, calibration=Calibration((1.0,), tuple(by_class.tolist())))


def _true_tags(outputs: Outputs, scheme: TagScheme) -> tuple[TrueTags, Callable[[NDArray[Any]], Tags]]:
    """The truth, sequences one behind the other, and how (N, C) probabilities are decoded into that order."""
    sequences = np.arange(len(outputs)) if outputs.sequences is None else outputs.sequences
    order, first = first_tokens(sequences)
    weights = None if outputs.weights is None else outputs.weights[order]
    truth = TrueTags(outputs.labels[order], first, scheme, weights)
    return truth, partial(_decoded, order=order, sequences=sequences, scheme=scheme)


def _decoded(values: NDArray[Any], order: NDArray[np.int64], sequences: NDArray[Any], scheme: TagScheme) -> Tags:
    return decode_flat(values, sequences, scheme)[order]
