"""What all rows say that an alternative was not fitted on: values of a metric, and how sure they are."""

# A alternatives, N rows, G groups of rows, B draws, F numbers a row

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.evaluation.significance import Interval
from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.alternatives.out_of_sample import OutOfSample
from quorate.tuning.evaluation.bayesian_bootstrap import (
    FEW,
    bounds,
    drawn_means,
    exactly_above,
    group_numbers,
    group_sums,
)
from quorate.tuning.evaluation.metrics.metric import RowMetric
from quorate.tuning.evaluation.verdict import SAME, Proof
from quorate.tuning.scoring import Floats

# Of a gain that is none: on both halves of the rows, each judged with what the other half chose, and on held-out rows.
_CHANCE, _CHANCE_HELD_OUT = 0.03, 0.025
# The same as the intervals that are shown: nothing is recommended while they say that something else is better.
_CHANCE_OF_ANY = 0.025


@dataclass(frozen=True)
class Sample:
    """All alternatives on the same rows.

    Attributes:
        numbers: (N, A * F) of the metric, alternative by alternative.
        groups: (N,) numbers from 0 on, the same for rows that belong together.
        weights: (N,) how much each row counts; None where all count the same.
        prices: (A,) what each costs to serve, in the metric's unit: gains are net of it.
    """

    metric: RowMetric
    numbers: Floats
    groups: NDArray[np.intp]
    weights: Floats | None
    prices: Floats
    seed: int

    @property
    def size(self) -> int:
        """A."""
        return len(self.prices)

    @property
    def count(self) -> int:
        """G."""
        return int(self.groups.max()) + 1

    @cached_property
    def values(self) -> Floats:
        """(A,) the metric."""
        return self.metric.value(np.average(self.numbers, axis=0, weights=self.weights).reshape(self.size, -1))

    @cached_property
    def draws(self) -> Floats:
        """(B, A) the metric under other weights of the rows."""
        drawn = drawn_means(self.numbers, self.groups, self.weights, seed=self.seed)
        return self.metric.value(drawn.reshape(len(drawn), self.size, -1))

    def gains(self, over: int) -> tuple[Floats, Floats]:
        """How much better each alternative is than the one numbered ``over``: (A,) and draws (B, A)."""
        gain, saved = self.metric.gain, self.prices[over] - self.prices
        return gain(self.values[over], self.values) + saved, gain(self.draws[:, [over]], self.draws) + saved

    def best(self, numbers: Sequence[int]) -> int:
        """The best value; the first of those that are the same."""
        values = self.gains(numbers[0])[0]
        most = max(values[number] for number in numbers)
        return next(number for number in numbers if values[number] >= most - SAME)

    def intervals(self, over: int, among: Sequence[int], confidence: float = 0.95) -> list[Interval]:
        """How much better each of ``among`` is than ``over``, with intervals that hold for all of them at once."""
        values, draws = self.gains(over)
        found = {number: Interval(*(float(values[number]) + 0.0,) * 3) for number in among}
        spread = [number for number in among if np.ptp(draws[:, number]) > SAME]
        if spread:
            low, high = bounds(draws[:, spread], values[spread], self.count, confidence)
            for number, least, most in zip(spread, low, high, strict=True):
                found[number] = Interval(float(values[number]), float(least), float(most))
        return [found[number] for number in among]

    def better(self, over: int, among: Sequence[int], least: float, chance: float) -> Interval | None:
        """The largest gain of ``among`` over ``over`` that is beyond chance more than ``least``, for all at once."""
        found = self.intervals(over, among, 1 - 2 * chance)
        good = [gain.low > max(least, SAME) for gain in found]
        if any(good) and self.count < FEW and self.numbers.shape[1] == self.size:
            dearer = self.prices[list(among)] - self.prices[over]
            good = list(np.array(good) & exactly_above(self._sums(over, among) - least - dearer, 1 - chance))
        gains = [gain for gain, is_good in zip(found, good, strict=True) if is_good]
        return max(gains, key=lambda gain: gain.difference, default=None)

    def column(self, number: int) -> Floats:
        """(N, F) of one alternative."""
        width = self.numbers.shape[1] // self.size
        return self.numbers[:, number * width : (number + 1) * width]

    def only(self, columns: Sequence[Floats], prices: Floats) -> Sample:
        """The same rows under these alternatives."""
        return replace(self, numbers=np.concatenate(columns, axis=1), prices=prices)

    def _sums(self, over: int, among: Sequence[int]) -> Floats:
        """(G, K) gains of each group's rows, for a metric that is a mean over rows."""
        counted = self.numbers if self.weights is None else self.numbers * self.weights[:, None]
        sums = group_sums(counted, self.groups)
        return self.metric.gain(sums[:, [over]], sums[:, list(among)])


class Evidence:
    """Held-out rows, and solving rows out of fold beside them.

    Attributes:
        all: both, or the held-out rows alone where solving rows are none.
        held_out: the rows that nothing was chosen on.
    """

    def __init__(
        self, found: Sequence[OutOfSample], solve: Outputs, judge: Outputs, metric: RowMetric, pool: bool, seed: int,
        prices: Floats | None = None,
    ):  # fmt: skip
        """
        Args:
            found: the alternatives.
            solve, judge: the rows they were fitted on, and others.
            metric: of rows.
            pool: solving rows out of fold count like judging rows.
            seed: of draws.
            prices: (A,) what each costs to serve, in the metric's unit; nothing when None.
        """
        dear = np.zeros(len(found)) if prices is None else prices
        used = np.flatnonzero(~np.isnan(found[0].solving[:, 0]))
        solving = np.concatenate([one.solving[used] for one in found], axis=1)
        judging = np.concatenate([one.judging for one in found], axis=1)

        def sample(numbers: Floats, parts: Sequence[tuple[Outputs, Any]]) -> Sample:
            groups, weights = (_joined(parts, name) for name in ("groups", "weights"))
            return Sample(metric, numbers, group_numbers(groups, len(numbers)), weights, dear, seed)

        every = slice(None)
        self.held_out = sample(judging, [(judge, every)])
        self.solving = sample(solving, [(solve, used)]) if len(used) else None
        self.all = self.held_out
        if pool and len(used):
            self.all = sample(np.concatenate([solving, judging]), [(solve, used), (judge, every)])

    def shown(self, over: Sequence[int], among: Sequence[int], min_gain: float = 0.0) -> Proof | None:
        """Whether the best of ``among`` is better than the best of ``over`` by more than ``min_gain``, beyond chance.

        Each half of the rows is judged with what did best on the other half, so that no row has a part in choosing what
        it judges and all of them count; and on all rows together the best has to be ahead as well. Held-out rows alone
        are judged with what did best on solving rows. Or bounds that hold for all of ``among`` at once say it on all
        rows.
        """
        if not among:
            return None
        best = self.all.best(over)
        if self.all.gains(best)[0][self.all.best(among)] <= max(min_gain, SAME):
            return None
        chance = _CHANCE_HELD_OUT
        chosen, prices = self._chosen(best, over, among), self.all.prices
        pairs = self.held_out.only([self.held_out.column(number) for number in chosen], prices[list(chosen)])
        if self.all is not self.held_out and self.solving is not None:
            others = [self.held_out.best(group) for group in (over, among)]
            solving = [self.solving.column(number) for number in others]
            held_out = [pairs.column(number) for number in (0, 1)]
            chance = _CHANCE
            share = len(solving[0]) / (len(solving[0]) + len(held_out[0]))
            mixed = share * prices[others] + (1 - share) * pairs.prices
            pairs = self.all.only([np.concatenate(both) for both in zip(solving, held_out, strict=True)], mixed)
        gain = pairs.better(0, [1], min_gain, chance) or self.all.better(best, among, min_gain, _CHANCE_OF_ANY)
        return None if gain is None else Proof(gain, len(pairs.numbers))

    def _chosen(self, best: int, over: Sequence[int], among: Sequence[int]) -> tuple[int, int]:
        """What held-out rows judge: not chosen on them, or, without other rows, the last against the best there is."""
        if self.solving is None:
            return best, among[-1]
        return self.solving.best(over), self.solving.best(among)


def _joined(parts: Sequence[tuple[Outputs, Any]], name: str) -> NDArray[Any] | None:
    """A column of several rows; None where some have none."""
    columns = [getattr(outputs, name) for outputs, _ in parts]
    if any(column is None for column in columns):
        return None
    return np.concatenate([np.asarray(column)[rows] for column, (_, rows) in zip(columns, parts, strict=True)])
