"""Weights under log-loss from labels as they come: a Bayes mixture of ways to learn weights.

A mixture of mixtures is one: what is learned is (M,) weights, whoever in it is right. The ways are

- the prior's weights as they are: nothing is learned worse than that by more than the price of choosing;
- Bayes over the members (Vovk 1990, "Aggregating strategies"), as good as the best of them but for log(1 / prior);
- Bayes with fixed share (Herbster and Warmuth 1998, "Tracking the best expert"), as good as the best sequence of them;
- the best mixture of all labels so far, ``Leader``, and, in place of windows, those since times that lie up to 1,024 or
  4,096 labels back, each beside Bayes over the members since then (after Hazan and Seshadhri 2009, "Efficient learning
  algorithms for changing environments").

What began anew learns only from labels of rows that were answered since: late ones tell of what was before. Of others
it is asleep, and taken to say what those say together who are not.

Bayes over the ways shares 1 / (t + 1) of their weights at the t-th label, and one in 200 with each way that begins
anew: to have followed one of K other ways all along costs log K + log(t + 1) + .005 for each of those at most.

A member that is missing is taken to have said what the others' mixture said (Freund, Schapire, Singer, Warmuth 1997,
"Using and combining predictors that specialize"). Fixed weights u then have, by Jensen's inequality, at most the share
u(present) of the loss that they have rescaled to those present, and the rest of the loss of the mixture itself.
"""

# M members, N labels, K ways

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.learning.online.leader import EVERY, Floats, Leader
from quorate.fusion.evaluation.measures import LEAST_PROBABILITY

# No probability is lower: one that is 0 would cost endlessly much, and rule a member out for ever.
LEAST = LEAST_PROBABILITY
# Leaders that begin anew after so many labels, and how many of them, at even distances. These, and the numbers below,
# came out best on streams that change abruptly (benchmarks/online.py).
LIVES = ((1024, 8), (4096, 4))
# What such a one takes of the others: at first it says what all say together.
BORN = 0.005
# What fixed share gives away at every label, to all members by the prior.
SHARED = 0.001
# Of the prior this share is spread over all members: one that had no weight may earn some.
SPREAD = 0.03
_PRIOR, _BAYES, _SHARE = range(3)
_TINY = 1e-250


@dataclass(frozen=True)
class Learned:
    """What came of labels.

    Attributes:
        weights: (N, M) that were held when each came.
        losses: (N,) what they cost, in nats.
    """

    weights: Floats
    losses: Floats


@dataclass(frozen=True)
class Regret:
    """What learning has cost so far, in nats of all labels together, and what it can have cost at most.

    Attributes:
        labels: how many.
        loss: of the weights that were held when each label came.
        member: the place of the best one, ``member_loss`` its own loss, and ``member_bound`` of the regret against it.
        mixture_loss: of the best fixed mixture in hindsight, and ``mixture_bound`` of the regret against it.
        prior_loss: of the weights that were there at first, ``prior_bound`` of the regret against them.
    """

    labels: int
    loss: float
    member: int
    member_loss: float
    member_bound: float
    mixture_loss: float
    mixture_bound: float
    prior_loss: float
    prior_bound: float


class OnlineMixture:
    """Learns weights from labels, in the order in which they come.

    Attributes:
        weights: (M,) now.
        prior: (M,) those at first, spread a little.
    """

    def __init__(self, prior: ArrayLike):
        """Args:
        prior: (M,) >= 0, not all 0: any revision's weights.
        """
        given = np.asarray(prior, np.float64)
        self.given = given / given.sum()
        self.prior = (1 - SPREAD) * self.given + SPREAD / len(given)
        self._lives = [(life, life * one // count) for life, count in LIVES for one in range(count)]
        self._leaders = [Leader(self.prior) for _ in range(1 + len(self._lives))]
        self._first = _SHARE + 1  # of the leaders among the ways, and behind them Bayes since each began anew
        ways = self._first + 2 * len(self._leaders) - 1
        self._born = np.zeros(ways, np.int64)
        self._ways = np.tile(self.prior, (ways, 1))
        self._ways[_PRIOR] = self.given
        self._chosen = np.full(ways, 1 / ways)
        self._pending: list[tuple[Floats, int]] = []
        self.labels, self._births, self._loss = 0, 0, 0.0
        self._way_losses, self._member_losses = np.zeros(ways), np.zeros(len(given))
        self.weights = self._chosen @ self._ways

    def learn(
        self, probs: ArrayLike, present: ArrayLike | None = None, known: NDArray[np.intp] | None = None
    ) -> Learned:
        """Take labels.

        Args:
            probs: (N, M) each member's probability of what was true.
            present: (N, M) bool, which of them answered, one at least in each row; all when None.
            known: (N,) how many labels, of all so far, had come when each row was answered; all when None.
        """
        rows = np.clip(np.asarray(probs, np.float64), LEAST, 1.0)
        there = None if present is None or np.all(present) else np.asarray(present, np.bool_)
        weights, losses = np.empty_like(rows), np.empty(len(rows))
        for at, row in enumerate(rows):
            weights[at] = self.weights
            before = self.labels if known is None else int(known[at])
            losses[at] = self._take(row, None if there is None else there[at], before)
        return Learned(weights, losses)

    def regret(self) -> Regret:
        """What it has cost so far."""
        best, chosen = int(self._member_losses.argmin()), self._choosing_cost()
        alone = chosen - math.log(self.prior[best])
        leader = copy(self._leaders[0])  # what waits is written where it will be written again
        if self._pending:
            leader.learn(np.stack([row for row, _ in self._pending]))
        return Regret(
            self.labels, self._loss, best, float(self._member_losses[best]), alone,
            leader.best_loss(), chosen + leader.regret_bound(), float(self._way_losses[_PRIOR]), chosen,
        )  # fmt: skip

    def _choosing_cost(self) -> float:
        """Of following one way all along: log K, and what it gives to the others, and to those that begin anew."""
        return math.log(len(self._chosen)) + math.log(self.labels + 1) - self._births * math.log1p(-BORN)

    def _take(self, row: Floats, present: NDArray[np.bool_] | None, known: int) -> float:
        ways, chosen = self._ways, self._chosen
        if present is not None and not present.all():
            row[~present] = (self.weights[present] @ row[present]) / self.weights[present].sum()
        by_way = ways @ row
        prob = float(chosen @ by_way)
        asleep = self._born > known
        if asleep.any():
            prob = float(chosen[~asleep] @ by_way[~asleep] / chosen[~asleep].sum())
            by_way[asleep] = prob
        ways[_BAYES] *= row / by_way[_BAYES]
        np.maximum(ways[_BAYES], _TINY, out=ways[_BAYES])
        since = self._first + len(self._leaders)
        awake = since + np.flatnonzero(~asleep[since:])
        ways[awake] *= row / by_way[awake, None]
        np.maximum(ways[since:], _TINY, out=ways[since:])
        ways[_SHARE] *= row * ((1 - SHARED) / by_way[_SHARE])
        ways[_SHARE] += SHARED * self.prior
        self.labels += 1
        kept = 1 / (self.labels + 1)
        chosen *= by_way * ((1 - kept) / prob)
        chosen += kept / len(chosen)
        self._pending.append((row, known))
        if len(self._pending) >= EVERY:
            self._hand_on()
        self.weights = chosen @ ways
        self._way_losses -= np.log(by_way)
        self._member_losses -= np.log(row)
        loss = -math.log(prob)
        self._loss += loss
        return loss

    def _hand_on(self) -> None:
        """Let the leaders have what came."""
        if not self._pending:
            return
        rows, known = np.stack([row for row, _ in self._pending]), np.array([one for _, one in self._pending])
        self._pending.clear()
        for at, leader in enumerate(self._leaders):
            way = _SHARE + 1 + at
            if at and self._due(*self._lives[at - 1], len(rows)):
                leader.begin_anew(SPREAD * self.prior + (1 - SPREAD) * self.weights)
                self._bear(way, leader.weights)
                self._bear(way + len(self._leaders) - 1, leader.weights)
            mine = known >= self._born[way]
            if mine.any():
                leader.learn(rows[mine])
                self._ways[way] = leader.weights

    def _due(self, life: int, first: int, new: int) -> bool:
        """Whether a leader's time has come among the new labels."""
        return (self.labels - first) % life < new

    def _bear(self, way: int, weights: Floats) -> None:
        """Have a way begin anew."""
        self._ways[way], self._born[way] = weights, self.labels
        self._chosen[way] = 0.0  # what it had goes to those who know as much
        self._chosen *= (1 - BORN) / self._chosen.sum()
        self._chosen[way] = BORN
        self._births += 1


def pooled(weights: Floats, values: Floats, present: NDArray[np.bool_]) -> Floats:
    """(N,) the mean of (N, M) values under (M,) or (N, M) weights, rescaled to those present."""
    there = weights * present
    return np.asarray((there * values).sum(axis=1) / there.sum(axis=1), np.float64)
