"""What all rows say that an alternative was not fitted on: values of a metric, and how sure they are."""

# A alternatives, N rows, G groups of rows, B draws, F numbers a row

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.evaluation.significance import Interval
from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.alternatives.out_of_sample import OutOfSample
from quorate.tuning.evaluation.bayesian_bootstrap import FEW, bounds, drawn_means, exactly_above, group_numbers
from quorate.tuning.evaluation.row_metrics import RowMetric
from quorate.tuning.evaluation.verdict import SAME
from quorate.tuning.scoring import Floats

# Of being wrong, for either way to show a gain; together they are in one of twenty at most.
_CHANCE = 0.025


@dataclass(frozen=True)
class Sample:
    """All alternatives on the same rows.

    Attributes:
        numbers: (N, A * F) of the metric, alternative by alternative.
        groups: (N,) numbers from 0 on, the same for rows that belong together.
        weights: (N,) how much each row counts; None where all count the same.
        size: A.
    """

    metric: RowMetric
    numbers: Floats
    groups: NDArray[np.intp]
    weights: Floats | None
    size: int
    seed: int

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
        gain = self.metric.gain
        return gain(self.values[over], self.values), gain(self.draws[:, [over]], self.draws)

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

    def better(self, over: int, among: Sequence[int], min_gain: float) -> list[tuple[int, Interval]]:
        """Those of ``among`` better than ``over`` beyond chance, for all at once, and by how much; the best first."""
        found = zip(among, self.intervals(over, among, 1 - 2 * _CHANCE), strict=True)
        good = [(number, gain) for number, gain in found if gain.low > max(min_gain, SAME)]
        if good and self.count < FEW and self.numbers.shape[1] == self.size:
            exact = exactly_above(self._sums(over, among) - min_gain, 1 - _CHANCE)
            good = [(number, gain) for number, gain in good if exact[list(among).index(number)]]
        return sorted(good, key=lambda one: -one[1].difference)

    def _sums(self, over: int, among: Sequence[int]) -> Floats:
        """(G, K) gains of each group's rows, for a metric that is a mean over rows."""
        counted = self.numbers if self.weights is None else self.numbers * self.weights[:, None]
        sums = np.zeros((self.count, self.size))
        np.add.at(sums, self.groups, counted)
        return self.metric.gain(sums[:, [over]], sums[:, list(among)])


@dataclass(frozen=True)
class Shown:
    """A gain beyond chance.

    Attributes:
        alternative: which gained.
        gain: how much, with a 95 % interval.
        rows: how many showed it.
    """

    alternative: int
    gain: Interval
    rows: int


class Evidence:
    """Held-out rows, and solving rows out of fold beside them.

    Attributes:
        all: both, or the held-out rows alone where solving rows are none.
        held_out: the rows that nothing was chosen on.
    """

    def __init__(
        self, found: Sequence[OutOfSample], solve: Outputs, judge: Outputs, metric: RowMetric, pool: bool, seed: int
    ):
        """
        Args:
            found: the alternatives.
            solve, judge: the rows they were fitted on, and others.
            metric: of rows.
            pool: solving rows out of fold count like judging rows.
            seed: of draws.
        """
        used = np.flatnonzero(~np.isnan(found[0].solving[:, 0]))
        solving = np.concatenate([one.solving[used] for one in found], axis=1)
        judging = np.concatenate([one.judging for one in found], axis=1)

        def sample(numbers: Floats, parts: Sequence[tuple[Outputs, Any]]) -> Sample:
            groups, weights = (_joined(parts, name) for name in ("groups", "weights"))
            return Sample(metric, numbers, group_numbers(groups, len(numbers)), weights, len(found), seed)

        every = slice(None)
        self.held_out = sample(judging, [(judge, every)])
        self.solving = sample(solving, [(solve, used)]) if len(used) else None
        self.all = self.held_out
        if pool and len(used):
            self.all = sample(np.concatenate([solving, judging]), [(solve, used), (judge, every)])

    def shown(self, over: int, among: Sequence[int], min_gain: float = 0.0) -> Shown | None:
        """Whether some of ``among`` are better than ``over`` by more than ``min_gain``, beyond chance.

        Either the one that was best on solving rows (the last, where there are none) is better on held-out rows, or
        some are better on all rows by bounds that hold for all of them at once.
        """
        if not among:
            return None
        first = among[-1] if self.solving is None else self.solving.best(among)
        for sample, tried in ((self.held_out, [first]), (self.all, among)):
            for number, gain in sample.better(over, tried, min_gain):
                return Shown(number, gain, len(sample.numbers))
        return None


def _joined(parts: Sequence[tuple[Outputs, Any]], name: str) -> NDArray[Any] | None:
    """A column of several rows; None where some have none."""
    columns = [getattr(outputs, name) for outputs, _ in parts]
    if any(column is None for column in columns):
        return None
    return np.concatenate([np.asarray(column)[rows] for column, (_, rows) in zip(columns, parts, strict=True)])
