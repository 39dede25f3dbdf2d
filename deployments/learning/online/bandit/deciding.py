"""When a bandit that was learned goes live and when it is taken back, by labels of rows that other choices answered.

Policies are compared in utility: being right, less the price of what they ask, the price being that of the policy that
somebody deployed. Three things must be shown before one goes live, each by evidence that holds at all looks
(``MeanBets``): that it earns more than the live one; that it keeps the floor, prices being tested from the most careful
as at fit (``risk_control``); and that labels have to do with the answers at all (``Sense``). What is known of a row for
its chances alone is weighed by one over these (Horvitz and Thompson 1952), and half of what is staked is on the worst
that it could have been instead, which no chance makes larger. Evidence counts up to a limit only: what was shown long
ago is lost again when it is no longer so. What is shown is that policies did so as they were known when labels came;
the newest goes live. That the live one breaks the floor is shown in the same way, and then what is known to keep it
replaces it at once: the deployed one, or that everybody is asked. Nothing goes back to that one either which is not
shown to keep the floor: being cheaper may be worth more than being right at its price.
"""

# N rows, K sets, J prices

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.learning.online.bandit.rows import ToldRows
from quorate.deployments.learning.online.mixture import LEAST
from quorate.deployments.learning.online.publishing import ALPHA, Sense
from quorate.deployments.rollout.confidence_sequence import MeanBets
from quorate.fusion.learned.bandit import Bandit

Floats = NDArray[np.float64]
Arms = NDArray[np.intp]
# Of the deployed policy's price, the safest first.
PRICES = (0.0, 0.25, 0.5, 1.0)
# And that is at most so many times what may be lost: where the first members alone keep the floor any price would do,
# and one that is far above tells nothing of those below it.
MOST_PRICE = 10.0
# What is no better than so much of the price of all calls is not worth a change.
LEAST_SAVED = 0.02
# Whatever models say, everybody is asked.
ASK_ALL = -1e6
# Of the capital that a test needs, what all its stakes may have together at most.
_MOST = 8.0
_SURE = 1 - 1e-9
_STAKES = np.array([0.95, *0.7 ** np.arange(1, 12)])


@dataclass(frozen=True)
class PolicyWish:
    """A policy that is to go live.

    Attributes:
        rule: it.
        back: whether it is the deployed one again.
        at_once: the floor is broken, or something is taken back: it waits for nothing.
        gain: in utility a row over the live one, of the ``decided_by`` labels that decided.
    """

    rule: Bandit
    back: bool
    at_once: bool
    gain: float
    decided_by: int


class PolicyPublisher:
    """Decides over policies as labels come; who makes them live says so with ``went_live``.

    Attributes:
        live: now, and ``pinned`` what somebody deployed.
        price: of asking all others, in being right once, that policies are compared at.
        wish: what is to go live after the labels so far; None where nothing is.
    """

    def __init__(self, pinned: Bandit, live: Bandit | None = None, since_us: int = -1, published: int = 0):
        """Args:
        pinned: with a floor, and a share that explores.
        live: the pinned one when None.
        since_us: answers that were given before say nothing.
        published: how many have gone live by themselves since the pinned one was deployed.
        """
        assert pinned.max_loss is not None
        self.pinned, self.live = pinned, pinned if live is None else live
        loss = max(pinned.max_loss, LEAST_SAVED / 10)
        self.price = min(pinned.price, MOST_PRICE * loss) if pinned.price > 0 else loss
        self.prices = tuple(part * self.price for part in PRICES)
        self.wish: PolicyWish | None = None
        self._since_us, self._published = since_us, published
        # Of the rows that are not explored, since those ask everybody: what these lose is lost by them alone.
        self._most_lost = min(pinned.max_loss / max(1 - pinned.explore, 1e-9), 0.99)
        self._costs = pinned.arm_costs.numpy()
        self._begin_test()

    def look(self, rows: ToldRows, promised: Floats, theta: Floats) -> None:
        """Take labels, all under what is live.

        Args:
            promised: (N, K) by the models before these.
            theta: (K, D) models with these.
        """
        fresh = self.is_fresh(rows)
        some = rows.part(fresh)
        if len(some):
            self._test(some, promised[fresh])
        self._decide(theta)

    def is_fresh(self, rows: ToldRows) -> NDArray[np.bool_]:
        """(N,) answers since what is live is so, of which more could have been known."""
        seen = rows.chances[:, self.live.everyone] >= self._least_seen
        return (rows.answered_us >= self._since_us) & seen

    def went_live(self, rule: Bandit, back: bool, time_us: int) -> None:
        """A policy is live, for answers from a time on."""
        self.live = self.pinned if back else rule
        self._published += not back
        self._since_us = time_us
        self._begin_test()

    @property
    def _least_seen(self) -> float:
        """The least chance that what asking everybody answers becomes known."""
        return max(self.live.explore - 1e-12, 1e-12)

    def _begin_test(self) -> None:
        self.wish = None
        own = self.live is not self.pinned
        self._gains = _Bets(len(PRICES), LEAST_SAVED * self.price, self.price, self._least_seen, self._level)
        self._kept = _Bets(len(PRICES), -self._most_lost, 0.0, self._least_seen, self._floor_level)
        self._broken = _Bets(1, self._most_lost, 0.0, self._least_seen, ALPHA)
        self._worse = _Bets(int(own), 0.0, self.price, self._least_seen, ALPHA)
        self._pinned_kept = _Bets(int(own), -self._most_lost, 0.0, self._least_seen, self._floor_level)
        self._senses, self._makes_sense = (Sense(), Sense()), np.full(2, -math.inf)
        self._gained, self._back, self._tested = np.zeros(len(PRICES)), 0.0, 0

    @property
    def _level(self) -> float:
        return ALPHA / ((self._published + 1) * (self._published + 2) * len(PRICES))

    @property
    def _floor_level(self) -> float:
        return 1 - self.pinned.confidence

    def _test(self, rows: ToldRows, promised: Floats) -> None:
        live, everyone = self.chosen(self.live, rows), np.full(len(rows), self.live.everyone)
        learned = np.stack([self._at_price(promised, price) for price in self.prices], axis=1)
        saved = self._costs[live][:, None] - self._costs[learned]
        gains, worst = _differences(rows, learned, live)
        self._gained += (gains + self.price * saved).sum(axis=0)
        self._gains.add(gains + self.price * saved, worst + self.price * saved)
        self._kept.add(*_differences(rows, learned, everyone))
        self._broken.add(*(-one for one in _differences(rows, live[:, None], everyone, worst=False)))
        if self.live is not self.pinned:
            pinned = self.chosen(self.pinned, rows)[:, None]
            saved = self.price * (self._costs[live][:, None] - self._costs[pinned])
            found, worst = _differences(rows, pinned, live)
            self._back += float((found + saved).sum())
            self._worse.add(found + saved, worst + saved)
            self._pinned_kept.add(*_differences(rows, pinned, everyone))
        self._tested += len(rows)
        self._look_for_sense(rows)

    def _look_for_sense(self, rows: ToldRows) -> None:
        """Labels have to do with what the first members say, or with what all together do."""
        whole = rows.known[:, self.live.everyone]
        for at, (probs, truth) in enumerate(
            ((rows.alone_probs, rows.truth), (rows.whole_probs[whole], rows.truth[whole]))
        ):
            if len(truth):
                self._makes_sense[at] = self._senses[at].add(np.clip(probs, LEAST, 1.0), truth)[-1]

    @staticmethod
    def chosen(rule: Bandit, rows: ToldRows) -> Arms:
        """(N,) the sets that a policy asks of rows that are not explored."""
        return np.asarray(rule.choices(rule.promises(torch.from_numpy(rows.context))).numpy(), np.intp)

    def _at_price(self, promised: Floats, price: float) -> Arms:
        return np.asarray((promised - price * self._costs).argmax(axis=1), np.intp)

    def _decide(self, theta: Floats) -> None:
        if self.wish is not None and self.wish.at_once:  # what is worse is so until it is replaced
            return
        sense = bool(np.logaddexp(*self._makes_sense) - math.log(2) >= -math.log(ALPHA))
        broken = sense and bool(self._broken.shown()[0])
        own = self.live is not self.pinned
        self.wish = None
        if own and self._pinned_kept.shown()[0] and (broken or self._worse.shown()[0]):
            self.wish = PolicyWish(self.pinned, True, True, self._back / max(self._tested, 1), self._tested)
        elif broken and self.live.price != ASK_ALL:
            at = self._most_kept()
            price = ASK_ALL if at is None else self.prices[at]
            self.wish = PolicyWish(self._learned(theta, price), False, True, self._mean_gain(at or 0), self._tested)
        elif sense:
            kept = self._most_kept()
            ahead = [at for at in np.flatnonzero(self._gains.shown()).tolist() if kept is not None and at <= kept]
            if ahead:
                rule = self._learned(theta, self.prices[ahead[-1]])
                self.wish = PolicyWish(rule, False, False, self._mean_gain(ahead[-1]), self._tested)

    def _most_kept(self) -> int | None:
        """The highest price of those that are shown to keep the floor, up to the first that is not."""
        kept = self._kept.shown()
        return None if not kept[0] else len(PRICES) - 1 if kept.all() else int(kept.argmin()) - 1

    def _learned(self, theta: Floats, price: float) -> Bandit:
        return self.live.with_models(torch.from_numpy(theta.copy()), price)

    def _mean_gain(self, at: int) -> float:
        return float(self._gained[at] / max(self._tested, 1))


class _Bets:
    """That each of several sequences is above a number on average: of each, on what is estimated and on the worst."""

    def __init__(self, count: int, least: float, price: float, seen: float, level: float):
        """Args:
        price: what costs can come to, on either side.
        seen: the least chance that a row is known.
        level: to err, of each.
        """
        self._least, self._count = least, count
        self._room = np.repeat([least + 1 / seen + price, least + 1 + price], count)
        self._level = -math.log(level)
        self._bets, self._all = MeanBets(2 * count, _STAKES, _MOST / level / len(_STAKES)), np.arange(2 * count)
        self.evidence = np.zeros(count)

    def add(self, values: Floats, worst: Floats) -> None:
        """(N, T) of each."""
        if not self._count:
            return
        gains = (np.concatenate([values, worst], axis=1) - self._least) / self._room
        for row in gains:
            found = self._bets.add(row, self._all)
        self.evidence = np.logaddexp(found[: self._count], found[self._count :]) - math.log(2)

    def shown(self) -> NDArray[np.bool_]:
        """(T,) which are."""
        return self.evidence >= self._level


def _differences(rows: ToldRows, one: Arms, other: Arms, worst: bool = True) -> tuple[Floats, Floats]:
    """(N, T) by how much more (N, T) sets are right than (N,) others: as it is estimated, and at least (or at most)."""
    at, other = np.arange(len(rows))[:, None], other[:, None]
    same = one == other
    known = rows.known[at, one] & rows.known[at, other]
    seen = np.where(known, rows.seen[at, one, other], 1.0)
    estimated = np.where(known & ~same, (rows.rewards[at, one] - rows.rewards[at, other]) / seen, 0.0)
    sure = rows.chances >= _SURE
    low, high = np.where(sure, rows.rewards, 0.0), np.where(sure, rows.rewards, 1.0)
    bound = low[at, one] - high[at, other] if worst else high[at, one] - low[at, other]
    return estimated, np.where(same, 0.0, bound)
