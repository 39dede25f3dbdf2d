"""What is searched by span F1: a bias of O, and the weights and the threshold of a vote on spans."""

# M members, N tokens of all sequences, one behind the other; C classes, S spans

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.sequences.span_vote import Ballots, TiePolicy, elect
from quorate.fusion.sequences.tags import TagScheme
from quorate.tuning.scoring import Floats

# Added to log p of O: below 0 more spans are found. Coarse steps, then finer ones around the best.
_COARSE, _FINE = np.linspace(-4.0, 2.0, 9), np.array([-0.5, -0.25, 0.25, 0.5])
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
# Members that the greedy search adds at most, copies counted.
_STEPS = 12
# Votes are counted in whole numbers, as they are when served.
_WHOLE, _ROUNDING = 2.0**40, 2.0**4


@dataclass(frozen=True)
class TrueTags:
    """What tags are compared with.

    Attributes:
        labels: (N,) columns of the true tags.
        first: (N,) whether a token is the first of its sequence.
        scheme: how classes say spans.
        weights: (N,) how much each token counts; None where all count the same.
    """

    labels: NDArray[np.int64]
    first: NDArray[np.bool_]
    scheme: TagScheme
    weights: Floats | None = None

    def counts(self, tags: NDArray[np.int64]) -> Floats:
        """(N, 3) of the spans that begin at each token: found rightly, found, true."""
        counts, ends = np.zeros((len(tags), 3)), np.zeros((2, len(tags)), dtype=np.int64)
        kinds = np.full((2, len(tags)), -1)
        for row, said in enumerate((tags, self.labels)):
            spans = self.scheme.spans(said, self.first)
            counts[spans.starts, 1 + row] = 1
            ends[row, spans.starts], kinds[row, spans.starts] = spans.ends, spans.kinds
        counts[:, 0] = (ends[0] == ends[1]) & (kinds[0] == kinds[1]) & (kinds[0] >= 0)
        return counts

    def f1(self, tags: NDArray[np.int64]) -> float:
        """Of all spans together."""
        counts = self.counts(tags)
        return float(f1_of(counts.sum(axis=0) if self.weights is None else self.weights @ counts))

    @cached_property
    def spans(self) -> Ballots:
        """The true spans."""
        return Ballots.of(self.labels[None], self.first, self.scheme)


def f1_of(counts: Floats) -> Floats:
    """(..., 3) of spans found rightly, found and true to 2 * right / (found + true).

    0 where there is nothing to find and nothing is found, as seqeval has it.
    """
    right, found, true = np.moveaxis(counts, -1, 0)
    return np.asarray(np.divide(2 * right, found + true, out=np.zeros_like(right), where=found + true > 0))


def outside_bias(f1: Callable[[float], float]) -> tuple[float, float]:
    """The bias of O with the largest F1, and that; of several the one next to 0."""
    tried = {0.0: f1(0.0)}
    for steps in (_COARSE, _FINE):
        centre = 0.0 if steps is _COARSE else max(tried, key=lambda bias: (tried[bias], -abs(bias)))
        for bias in (centre + steps).tolist():
            if bias not in tried:
                tried[bias] = f1(bias)
    best = max(tried, key=lambda bias: (tried[bias], -abs(bias)))
    return best, tried[best]


@dataclass
class VoteSearch:
    """Weights and threshold of a vote on spans, searched greedily.

    Attributes:
        ballots: what members say.
        truth: of the same tokens.
        policy: between spans with as many votes; the longer one when None.
        score: F1 of the best so far.
    """

    ballots: Ballots
    truth: TrueTags
    policy: TiePolicy | None = None
    score: float = field(default=-1.0, init=False)

    def solve(self) -> tuple[Floats, float]:
        """(M,) weights that sum to one, and the threshold.

        Equal weights, unless adding members one by one, copies allowed (Caruana et al. 2004, "Ensemble Selection from
        Libraries of Models"), comes to a larger F1.
        """
        members = self.ballots.voters.shape[1]
        equal = np.ones(members, dtype=np.int64)
        best_score, best = self._best(equal)
        found, counts = (equal, best), np.zeros(members, dtype=np.int64)
        for _ in range(min(_STEPS, 2 * members)):
            tried = [(*self._best(counts + step), counts + step) for step in np.eye(members, dtype=np.int64)]
            score, threshold, counts = max(tried, key=lambda one: one[0])  # the first of those that are as good
            if score > best_score + 1e-12:
                best_score, found = score, (counts, threshold)
        self.score = best_score
        return found[0] / found[0].sum(), found[1]

    def f1(self, weights: Floats, threshold: float) -> float:
        """Of a vote with these weights (M,), of any sum above 0."""
        shares = np.round(weights / weights.sum() * _WHOLE)
        votes = self.ballots.voters @ shares
        return self._f1(votes, votes >= threshold * shares.sum() - _ROUNDING)

    def _best(self, weights: NDArray[np.int64]) -> tuple[float, float]:
        """F1 and threshold; of several thresholds the one next to a half."""
        votes = self.ballots.voters @ weights
        scores = {one: self._f1(votes, votes >= one * weights.sum() - 1e-9) for one in THRESHOLDS}
        threshold = max(THRESHOLDS, key=lambda one: (scores[one], -abs(one - 0.5)))
        return scores[threshold], threshold

    def _f1(self, votes: NDArray[Any], enough: NDArray[np.bool_]) -> float:
        won = elect(self.ballots.spans, votes, enough, self._policy)
        counted = self._counted
        return float(f1_of(np.array([counted[won] @ self._true[won], counted[won].sum(), self._all])))

    @cached_property
    def _policy(self) -> TiePolicy:
        return self.policy or TiePolicy((0,) * len(self.truth.scheme.kinds))

    @cached_property
    def _counted(self) -> Floats:
        """(S,) how much each span counts."""
        weights, starts = self.truth.weights, self.ballots.spans.starts
        return np.ones(len(starts)) if weights is None else weights[starts]

    @cached_property
    def _true(self) -> NDArray[np.bool_]:
        """(S,) whether a span is a true one."""
        true = set(zip(*(column.tolist() for column in self.truth.spans.spans), strict=True))
        said = zip(*(column.tolist() for column in self.ballots.spans), strict=True)
        return np.array([span in true for span in said], dtype=np.bool_)

    @cached_property
    def _all(self) -> float:
        starts, weights = self.truth.spans.spans.starts, self.truth.weights
        return float(len(starts) if weights is None else weights[starts].sum())


def biased(values: NDArray[Any], bias: float, scheme: TagScheme) -> NDArray[Any]:
    """(N, C) probabilities with so much added to log p of O; rows no longer sum to one."""
    if not bias:
        return values
    changed: NDArray[Any] = values.copy()
    changed[:, scheme.outside] *= np.exp(bias)
    return changed
