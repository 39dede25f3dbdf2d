"""What statistics were: their means over the rows of a reference, and how far from these the truth may be."""

# R rows, D answers, S statistics

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from quorate.deployments.learning.drift.labelled_statistics import Calibration, Errors, Labels, Loss
from quorate.deployments.learning.drift.rows import Floats, Rows, Subject, draws
from quorate.deployments.learning.drift.statistics import (
    Classes,
    Confidence,
    Disagreement,
    Dissent,
    Kind,
    Missing,
    Statistic,
    Values,
)

KINDS: Mapping[str, Kind] = {
    one.name: one
    for one in (
        Disagreement(), Confidence(), Classes(), Dissent(), Values(), Missing(), Loss(), Calibration(), Labels(),
        Errors(),
    )
}  # fmt: skip
# A mean over fewer draws is no reference.
LEAST_DRAWS = 30
# Of numbers without a span these quantiles of the reference lie at a third and two thirds of it: what is broken is
# beyond, and counts as its end.
_USUAL = (1, 99)


@dataclass(frozen=True)
class Known:
    """A statistic in the reference; its numbers are moved and scaled to 0 .. 1, and cut off there.

    Attributes:
        mean: of the scaled numbers, likewise ``deviation``, their standard deviation.
        count: of how many draws.
        lowest, width: number = lowest + width * scaled.
    """

    mean: float
    deviation: float
    count: int
    lowest: float = 0.0
    width: float = 1.0

    def raw(self, scaled: float) -> float:
        """As the statistic has it."""
        return self.lowest + self.width * scaled

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Below and above which the true mean is with a probability of ``alpha`` at most, for each side.

        Exact (Clopper & Pearson 1934) where each number is 0 or 1; else as the central limit theorem has it.
        """
        n, mean = self.count, self.mean
        if math.isclose(self.deviation**2, mean * (1 - mean), rel_tol=0.01, abs_tol=1e-12):
            hits = mean * n
            low = float(special.betaincinv(hits, n - hits + 1, alpha)) if hits > 0 else 0.0
            return low, float(special.betaincinv(hits + 1, n - hits, 1 - alpha)) if hits < n else 1.0
        within = float(-special.ndtri(alpha)) * self.deviation / math.sqrt(n)
        return max(mean - within, 0.0), min(mean + within, 1.0)


@dataclass(frozen=True)
class Reference:
    """What was usual.

    Attributes:
        known: by statistic; those that the reference had too little of are not there.
        source: where it is from, for people.
        fusion: whose answers they are; empty where it has nothing of answers.
    """

    known: Mapping[Statistic, Known]
    source: str = ""
    fusion: str = ""

    def of_members(self, members: Collection[str]) -> Reference:
        """What is of some members, and nothing of the answers: another fusion gives others."""
        labels = {one: known for one, known in self.known.items() if one.kind == Labels.name}
        mine = {one: k for one, k in self.known.items() if one.members and set(one.members) <= set(members)}
        return Reference(labels | mine, self.source)

    def tells_of(self, one: Statistic) -> bool:
        """Whether it would have a statistic, had there been enough rows."""
        alike = [other for other in self.known if other.kind == one.kind]
        if not one.members:
            return any(not other.members for other in alike)
        return {name for other in alike for name in other.members} >= set(one.members)

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        rows = [
            [one.kind, list(one.members), one.about, k.mean, k.deviation, k.count, k.lowest, k.width]
            for one, k in self.known.items()
        ]
        return {"fusion": self.fusion, "source": self.source, "statistics": rows}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reference:
        """What ``to_json`` gave.

        Raises:
            KeyError, ValueError, TypeError: it is something else.
        """
        known = {
            Statistic(str(kind), tuple(members), str(about)): Known(
                float(mean), float(deviation), int(count), float(lowest), float(width)
            )
            for kind, members, about, mean, deviation, count, lowest, width in data["statistics"]
        }
        return cls(known, str(data["source"]), str(data["fusion"]))


def statistics_of(subject: Subject, kinds: Sequence[Kind]) -> list[Statistic]:
    """All statistics of some kinds, in the order of ``numbers_of``."""
    return [one for kind in kinds for one in kind.statistics(subject)]


def numbers_of(subject: Subject, kinds: Sequence[Kind], rows: Rows) -> Floats:
    """(R, S) numbers as they are."""
    with_meaning = [kind for kind in kinds if kind.statistics(subject)]
    if not with_meaning:
        return np.empty((len(rows), 0))
    return np.concatenate([kind.numbers(subject, rows) for kind in with_meaning], axis=1)


def reference_of(
    subject: Subject, kinds: Sequence[Kind], parts: Sequence[Rows], source: str = "", fusion: str = ""
) -> Reference:
    """The reference that rows are; answers of different parts are different ones."""
    found: dict[Statistic, Known] = {}
    answers = np.concatenate([part.answers + (at << 40) for at, part in enumerate(parts)])
    for kind in kinds:
        named = kind.statistics(subject)
        if not named:
            continue
        numbers = np.concatenate([kind.numbers(subject, part) for part in parts])
        span = kind.span(subject)
        for at, one in enumerate(named):
            column = numbers[:, at : at + 1]
            lowest, highest = span or _usual(column)
            drawn, _ = draws(scaled(column, lowest, highest - lowest), answers)
            there = drawn[~np.isnan(drawn)]
            if len(there) >= LEAST_DRAWS:
                found[one] = Known(float(there.mean()), float(there.std()), len(there), lowest, highest - lowest)
    return Reference(found, source, fusion)


def scaled(numbers: Floats, lowest: Any, width: Any) -> Floats:
    """Numbers as of ``Known``."""
    return np.asarray(np.clip((numbers - lowest) / width, 0.0, 1.0))


def _usual(column: Floats) -> tuple[float, float]:
    """Lowest and highest number such that what is usual is the middle third."""
    there = column[~np.isnan(column)]
    if not len(there):
        return 0.0, 1.0
    low, high = np.percentile(there, _USUAL)
    size = float(max(high - low, 1e-6 * max(abs(low), abs(high), 1e-6)))
    return float(low) - size, float(low) + 2 * size
