"""Evidence that may be looked at as often as one likes: tests whose error holds over all looks together.

A test at a fixed level that is repeated until it says no says no in the end. What is computed here is instead the gain
of a bet against the hypothesis, a process whose mean never exceeds 1 while the hypothesis is true; that it ever reaches
1/alpha has a probability of at most alpha (Ville 1939). The bet is the likelihood ratio of a mixture (Robbins 1970,
"Statistical methods related to the law of the iterated logarithm"; Ramdas et al. 2023, "Game-theoretic statistics and
safe anytime-valid inference", section 3). Its inversion gives confidence sequences for a quantile (Howard & Ramdas
2022, "Sequential estimation of quantiles with applications to A/B testing and best-arm identification"). Of a mean of
numbers without bounds they hold as the central limit theorem does, for many draws (Waudby-Smith, Arbour, Sinha,
Kennedy & Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence sequences", theorem 2.2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from quorate.deployments.metrics.latency_histogram import LatencyHistogram

_NARROWEST = 1000


def log_evidence(successes: ArrayLike, trials: ArrayLike, most: float) -> NDArray[Any]:
    """Log of the gain of a bet that trials succeed more often than with probability ``most``.

    The alternatives are mixed uniformly over (most, 1). Each is a likelihood ratio whose mean is at most 1 for every
    probability up to ``most``, whatever came before, so the bet holds while it changes below that as well.

    Args:
        successes: so far; arrays give an array.
        trials: so far.
    """
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    with np.errstate(divide="ignore"):  # log 0: no evidence at all
        above = np.log(special.betainc(n - k + 1, k + 1, 1 - most))
    mixed = special.betaln(k + 1, n - k + 1) + above - math.log1p(-most)
    evidence: NDArray[Any] = mixed - k * math.log(most) - (n - k) * math.log1p(-most)
    return evidence


def is_more_often(successes: int, trials: int, most: float, alpha: float) -> bool:
    """Whether trials succeed more often than with probability ``most``; at most ``alpha`` to err at any look."""
    return bool(log_evidence(successes, trials, most) >= -math.log(alpha))


def median_at_most_s(latencies: LatencyHistogram, alpha: float) -> float:
    """A bound that the median is below at all looks, but for a probability of ``alpha``; infinite while unknown."""
    ends, counts = latencies.up_to()
    known = np.flatnonzero(log_evidence(counts, len(latencies), 0.5) >= -math.log(alpha))
    return float(ends[known[0]]) if len(known) else math.inf


def median_at_least_s(latencies: LatencyHistogram, alpha: float) -> float:
    """A bound that the median is above at all looks, but for a probability of ``alpha``; 0 while unknown."""
    ends, counts = latencies.up_to()
    total = len(latencies)
    known = np.flatnonzero(log_evidence(total - counts, total, 0.5) >= -math.log(alpha))
    return float(ends[known[-1]]) if len(known) else 0.0


class MeanBet:
    """Evidence that numbers are above ``least`` on average, each given what came before it.

    A bet on every number whose gain has a mean of at most 1 while that is false (Waudby-Smith & Ramdas 2024,
    "Estimating means of bounded random variables by betting", section 4), on several stakes at once. A part of the
    capital is not staked yet, and less and less as time goes by, so that evidence that begins late counts as well.
    """

    STAKES = 0.5 ** np.arange(1, 11)
    # So many numbers from the beginning half of the capital waits.
    WAIT = 500

    def __init__(self, least: float = 0.0):
        self._least, self._count = least, 0
        self._capital = np.zeros(len(self.STAKES))

    def add(self, values: ArrayLike, lowest: ArrayLike) -> NDArray[Any]:
        """Bet on numbers.

        Args:
            values: (N,).
            lowest: (N,) what each could have been at least, below ``least``, known before it was.

        Returns:
            (N,) log evidence after each: at most ``alpha`` to ever reach log(1 / alpha) while no mean is above.
        """
        gains = (np.asarray(values, np.float64) - self._least) / (self._least - np.asarray(lowest, np.float64))
        found = np.empty(len(gains))
        for at, gain in enumerate(gains.tolist()):
            waiting = self.WAIT / (self.WAIT + self._count)
            self._count += 1
            after = self.WAIT / (self.WAIT + self._count)
            self._capital += (waiting - after) / len(self._capital)
            self._capital *= 1 + self.STAKES * gain
            np.minimum(self._capital, 1e250, out=self._capital)
            found[at] = math.log(float(self._capital.sum()) + after)
        return found


class MeanBets:
    """The same of many sequences of numbers side by side, each with a capital of its own."""

    def __init__(self, bets: int, stakes: NDArray[Any] = MeanBet.STAKES, most: float = 1e250):
        """Args:
        most: the capital of a stake is no more than this: what was gained long ago can be lost in time.
        """
        self._stakes, self._most = stakes, most
        self._capital = np.zeros((bets, len(stakes)))
        self._counts = np.zeros(bets)

    def add(self, gains: NDArray[np.float64], bets: NDArray[np.intp]) -> NDArray[np.float64]:
        """Bet once on some.

        Args:
            gains: (T,) what a stake of 1 gains, -1 at least; not above 0 on average while there is nothing to be found.
            bets: (T,) which they are.

        Returns:
            (T,) log evidence so far.
        """
        counts, capital = self._counts[bets], self._capital[bets]
        waiting, after = MeanBet.WAIT / (MeanBet.WAIT + counts), MeanBet.WAIT / (MeanBet.WAIT + counts + 1)
        capital += ((waiting - after) / len(self._stakes))[:, None]
        capital *= 1 + self._stakes * gains[:, None]
        np.minimum(capital, self._most, out=capital)
        self._counts[bets], self._capital[bets] = counts + 1, capital
        return np.asarray(np.log(capital.sum(axis=1) + after))

    def begin_anew(self, bet: int) -> None:
        """Forget what was gained and lost by one."""
        self._capital[bet], self._counts[bet] = 0.0, 0.0

    def take(self, bet: int, other: MeanBets, place: int) -> None:
        """Have one go on as another's does."""
        self._capital[bet], self._counts[bet] = other._capital[place], other._counts[place]


def mean_within(deviation: float, trials: int, alpha: float) -> float:
    """How far a mean is from that of what it is drawn from, at all looks but for a probability of ``alpha``.

    The mixture (Waudby-Smith et al. 2024, section 2.3) is the one that is narrowest after ``_NARROWEST`` draws.

    Args:
        deviation: the standard deviation of the draws.
        trials: how many they are; of fewer than two nothing is known, and of a few dozen little.
    """
    if trials < 2:
        return math.inf
    twice = -2 * math.log(alpha)
    mixed = trials * (twice + math.log(twice + 1)) / _NARROWEST
    return deviation * math.sqrt(2 * (mixed + 1) / (trials * mixed) * (math.log(mixed + 1) / 2 - math.log(alpha)))
