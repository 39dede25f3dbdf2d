"""Weights under log-loss from labels as they come: a Bayes mixture of ways to learn weights.

A mixture of mixtures is one: what is learned is (M,) weights, whoever in it is right. The ways are

- the prior's weights as they are: nothing is learned worse than that by more than the price of choosing;
- Bayes over the members (Vovk 1990, "Aggregating strategies"), as good as the best of them but for log(1 / prior);
- Bayes with fixed share (Herbster and Warmuth 1998, "Tracking the best expert"), as good as the best sequence of them;
- the best mixture of all labels so far, ``Leader``;
- the same of all rows that were answered after some moment. At every 64th label such a way begins anew, in the place of
  that which has lately done worst (run lengths and their pruning, after Adams and MacKay 2007, "Bayesian online
  changepoint detection"; Hazan and Seshadhri 2009, "Efficient learning algorithms for changing environments"). Until it
  has rows enough for a mixture it says what Bayes over the members says of them: who begins with few rows is better off
  so, and is taken over from later (van Erven, Grunwald, de Rooij 2012, "Catching up faster by switching sooner").

What counts is when a row was answered, not when its label came: a late label of a row of before a moment tells nothing
of what has been since. Of such rows a way that began then is asleep, and taken to say what those say together who are
not (Freund, Schapire, Singer, Warmuth 1997, "Using and combining predictors that specialize").

Bayes over the ways shares 1 / (t + 1) of their weights at the t-th label, and one in 200 with each way that begins
anew: to have followed one of the K ways that are there at first all along costs log K + log(t + 1) + .005 for each
of those at most.

A member that is missing is taken to have said what the others' mixture said, too. Fixed weights u then have, by
Jensen's inequality, at most the share u(present) of the loss that they have rescaled to those present, and the rest of
the loss of the mixture itself.
"""

# M members, N labels, K ways

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.learning.online.leader import EVERY, Floats, Leader, RecentLeader
from quorate.fusion.evaluation.measures import LEAST_PROBABILITY

# No probability is lower: one that is 0 would cost endlessly much, and rule a member out for ever.
LEAST = LEAST_PROBABILITY
# Who begins anew: how many there are, after how many labels one more does, and of how many rows each has to be judged
# first. These, and the numbers below, came out best on streams that change abruptly (benchmarks/online.py).
RESTARTS, BEGINS, JUDGED = 12, 64, 64
# What such a one takes of the others: at first it says what all say together.
BORN = 0.005
# Who is the first to follow a change is hard to catch up with by who is better later. One that has rows enough to be
# judged takes this part of fixed share's, and one of so many rows the same of others that began lately.
TAKEN, GROWN, YOUNG = 0.25, 256, 768
# How well a way does counts by about so many of the latest labels.
LATELY = 256
# How few rows a member its prior counts as.
FAINT = 0.02
# What fixed share gives away at every label, to all members by the prior.
SHARED = 0.001
# Of the prior this share is spread over all members: one that had no weight may earn some.
SPREAD = 0.03
_PRIOR, _BAYES, _SHARE, _EVER = range(4)
_FIRST = 4  # of those that begin anew
_ALWAYS, _NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max
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
        self._ever = Leader(self.prior)
        self._restarts: list[RecentLeader] = []
        ways = _FIRST + RESTARTS
        self._ways = np.tile(self.prior, (ways, 1))
        self._ways[_PRIOR] = self.given
        self._since = np.full(ways, _NEVER)  # only rows that were answered later say anything of a way
        self._since[:_FIRST] = _ALWAYS
        self._by_bayes = np.array([_BAYES])
        self._even = (self._since < _NEVER) / _FIRST  # what is shared goes to all who are there
        self._chosen = self._even.copy()
        self._lately = np.zeros(ways)  # by how much each has said better than all together
        self._pending: list[tuple[Floats, int]] = []
        self.labels, self._births, self._loss, self._prior_loss = 0, 0, 0.0, 0.0
        self._member_losses = np.zeros(len(given))
        self.weights = self._chosen @ self._ways

    def learn(
        self, probs: ArrayLike, present: ArrayLike | None = None, answered: NDArray[np.int64] | None = None
    ) -> Learned:
        """Take labels.

        Args:
            probs: (N, M) each member's probability of what was true.
            present: (N, M) bool, which of them answered, one at least in each row; all when None.
            answered: (N,) when each row was, by any clock; when None one after another, each label at once.
        """
        rows = np.clip(np.asarray(probs, np.float64), LEAST, 1.0)
        there = None if present is None or np.all(present) else np.asarray(present, np.bool_)
        times = np.arange(self.labels, self.labels + len(rows)) if answered is None else answered
        weights, losses = np.empty_like(rows), np.empty(len(rows))
        for at, (row, time) in enumerate(zip(rows, times.tolist(), strict=True)):
            weights[at] = self.weights
            losses[at] = self._take(row, None if there is None else there[at], time)
        return Learned(weights, losses)

    def regret(self) -> Regret:
        """What it has cost so far."""
        best, chosen = int(self._member_losses.argmin()), self._choosing_cost()
        alone = chosen - math.log(self.prior[best])
        leader = copy(self._ever)  # what waits is written where it will be written again
        if self._pending:
            leader.learn(np.stack([row for row, _ in self._pending]))
        return Regret(
            self.labels, self._loss, best, float(self._member_losses[best]), alone,
            leader.best_loss(), chosen + leader.regret_bound(), self._prior_loss, chosen,
        )  # fmt: skip

    def _choosing_cost(self) -> float:
        """Of following one way all along: log K, and what it gives to the others, and to those that begin anew."""
        return math.log(_FIRST) + math.log(self.labels + 1) - self._births * math.log1p(-BORN)

    def _take(self, row: Floats, present: NDArray[np.bool_] | None, time: int) -> float:
        ways, chosen = self._ways, self._chosen
        if present is not None and not present.all():
            row[~present] = (self.weights[present] @ row[present]) / self.weights[present].sum()
        by_way = ways @ row
        awake = self._since < time
        heard = chosen * awake
        prob = float(heard @ by_way / heard.sum())
        self._learn_members(row, by_way, awake)
        by_way[~awake] = prob
        self._lately *= 1 - 1 / LATELY
        self._lately += np.log(by_way / prob)
        self.labels += 1
        kept = 1 / (self.labels + 1)
        chosen *= by_way * ((1 - kept) / prob)
        chosen += kept * self._even
        self._prior_loss -= math.log(by_way[_PRIOR])
        self._member_losses -= np.log(row)
        self._pending.append((row, time))
        if len(self._pending) == EVERY:
            self._hand_on()
        self.weights = chosen @ ways
        loss = -math.log(prob)
        self._loss += loss
        return loss

    def _learn_members(self, row: Floats, by_way: Floats, awake: NDArray[np.bool_]) -> None:
        """Have the ways learn that are Bayes over the members."""
        ways, mine = self._ways, self._by_bayes[awake[self._by_bayes]]
        ways[mine] = np.maximum(ways[mine] * (row / by_way[mine, None]), _TINY)
        ways[_SHARE] *= row * ((1 - SHARED) / by_way[_SHARE])
        ways[_SHARE] += SHARED * self.prior

    def _hand_on(self) -> None:
        """Let the leaders have what came."""
        rows, times = np.stack([row for row, _ in self._pending]), np.array([time for _, time in self._pending])
        self._pending.clear()
        self._ever.learn(rows)
        self._ways[_EVER] = self._ever.weights
        for way, leader in enumerate(self._restarts, _FIRST):
            before = leader.rows
            leader.learn(rows[times > self._since[way]])
            if leader.solved:
                self._ways[way] = leader.weights
            if before < JUDGED <= leader.rows:
                self._take_part(way, [_SHARE])
            if before < GROWN <= leader.rows:
                self._take_part(way, [one for one in self._after_change() if one != way])
        if self.labels % BEGINS == 0:
            self._begin_anew(int(np.partition(times, -2)[-2]))  # one clock that is wrong is not believed
        young = [way for way, leader in enumerate(self._restarts, _FIRST) if not leader.solved]
        self._by_bayes = np.array([_BAYES, *young])

    def _after_change(self) -> list[int]:
        """Ways that may have begun about when the world has last changed."""
        return [way for way, leader in enumerate(self._restarts, _FIRST) if leader.rows < YOUNG]

    def _take_part(self, way: int, others: list[int]) -> None:
        taken = TAKEN * self._chosen[others]
        self._chosen[others] -= taken
        self._chosen[way] += taken.sum()

    def _begin_anew(self, time: int) -> None:
        """Have a way begin anew, of rows that were answered after a time, unless all others are to be judged first."""
        judged = [way for way, leader in enumerate(self._restarts, _FIRST) if leader.rows >= JUDGED]
        if len(self._restarts) < RESTARTS:
            way = _FIRST + len(self._restarts)
            self._restarts.append(RecentLeader(self.prior, FAINT))
        elif judged:
            way = min(judged, key=lambda one: float(self._lately[one]))
            self._restarts[way - _FIRST] = RecentLeader(self.prior, FAINT)
        else:
            return
        self._since[way], self._lately[way] = time, 0.0
        self._even = (self._since < _NEVER) / (self._since < _NEVER).sum()
        self._chosen[way] = 0.0  # what it had goes to those who know as much
        self._chosen *= (1 - BORN) / self._chosen.sum()
        self._ways[way] = SPREAD * self.prior + (1 - SPREAD) * (self._chosen @ self._ways) / (1 - BORN)
        self._chosen[way] = BORN
        self._births += 1


def pooled(weights: Floats, values: Floats, present: NDArray[np.bool_]) -> Floats:
    """(N,) the mean of (N, M) values under (M,) or (N, M) weights, rescaled to those present."""
    there = weights * present
    return np.asarray((there * values).sum(axis=1) / there.sum(axis=1), np.float64)
