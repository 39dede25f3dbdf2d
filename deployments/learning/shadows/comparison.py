"""How rows of two fusions differ, as sums that batches, doors and days add up."""

# R rows, T tokens, C classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]
ONE_CLASS, SEVERAL_CLASSES = ("classification", "binary", "tokens", "tagging"), "multilabel"
# Of values: what differs by less is the same number.
_SAME = 1e-6


@dataclass
class Answered:
    """Rows as one fusion answers them.

    Attributes:
        values: (R, ...), coverage (R,).
        said: (R,) rows that have a quorum and that the rule does not decline.
    """

    values: Values
    coverage: NDArray[np.float32]
    said: Mask


@dataclass
class Comparison:
    """A shadow beside the live fusion. Sums run over the rows that both answer; of classes, where the task has any.

    Attributes:
        rows: that were looked at.
        both, only_live, only_shadow: of these, how many have an answer of whom.
        changed: say another class, other classes, another value.
        apart, apart_squared, most_apart: how far the answers are from each other: of classes half the sum of all
            differences of probabilities (total variation), of values their mean difference.
        confidence_live, confidence_shadow: the largest probability.
        coverage_live, coverage_shadow: the share of weight that answered.
        fused_s: what fusing took, many rows at a time, and ``single_s`` of one row alone, ``singles`` times;
            ``single_live_s`` of the live fusion, as often.
        failed_rows: rows that it could not be computed on, and ``failure`` the last reason.
    """

    rows: int = 0
    both: int = 0
    only_live: int = 0
    only_shadow: int = 0
    changed: int = 0
    apart: float = 0.0
    apart_squared: float = 0.0
    most_apart: float = 0.0
    confidence_live: float = 0.0
    confidence_shadow: float = 0.0
    coverage_live: float = 0.0
    coverage_shadow: float = 0.0
    fused_s: float = 0.0
    single_s: float = 0.0
    single_live_s: float = 0.0
    singles: int = 0
    failed_rows: int = 0
    failure: str = ""

    def add(self, task: str, live: Answered, shadow: Answered) -> None:
        """Count rows that both were given."""
        both = live.said & shadow.said
        self.rows += len(both)
        self.only_live += int((live.said & ~shadow.said).sum())
        self.only_shadow += int((shadow.said & ~live.said).sum())
        count = int(both.sum())
        if not count:
            return
        self.both += count
        if count < len(both):
            live, shadow = (
                Answered(a.values[both], a.coverage[both], a.said[both]) for a in (live, shadow)
            )  # fmt: skip
        self.coverage_live += float(live.coverage.sum(dtype=np.float64))
        self.coverage_shadow += float(shadow.coverage.sum(dtype=np.float64))
        self._add_values(task, live.values, shadow.values)

    def _add_values(self, task: str, live: Values, shadow: Values) -> None:
        apart = np.abs(live - shadow).reshape(len(live), -1)
        if task in ONE_CLASS:
            self.changed += int(_any(live.argmax(axis=-1) != shadow.argmax(axis=-1)).sum())
            self.confidence_live += _confidence(live)
            self.confidence_shadow += _confidence(shadow)
            rows = apart.sum(axis=1) / (2 * np.prod(live.shape[1:-1], dtype=np.int64))
        elif task == SEVERAL_CLASSES:
            self.changed += int(_any((live >= 0.5) != (shadow >= 0.5)).sum())
            self.confidence_live += _confidence(np.maximum(live, 1 - live))
            self.confidence_shadow += _confidence(np.maximum(shadow, 1 - shadow))
            rows = apart.mean(axis=1)
        else:
            least = _SAME * np.maximum(np.abs(live).reshape(len(live), -1), 1.0)
            self.changed += int((apart > least).any(axis=1).sum())
            rows = apart.mean(axis=1)
        rows = rows.astype(np.float64)
        self.apart += float(rows.sum())
        self.apart_squared += float((rows**2).sum())
        self.most_apart = max(self.most_apart, float(rows.max()))

    def fail(self, rows: int, why: str) -> None:
        """Count rows that it could not be computed on."""
        self.failed_rows += rows
        self.failure = why

    def joined(self, other: Comparison) -> Comparison:
        """Both, as one."""
        mine, theirs = asdict(self), asdict(other)
        found = {name: mine[name] + theirs[name] for name in mine if name not in ("most_apart", "failure")}
        most, why = max(self.most_apart, other.most_apart), other.failure or self.failure
        return Comparison(**found, most_apart=most, failure=why)

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Comparison:
        """What ``to_json`` gave, of another version, too."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


def _any(differ: Mask) -> Mask:
    """(R,) whether any number of a row does."""
    return np.asarray(differ.reshape(len(differ), -1).any(axis=1))


def _confidence(values: Values) -> float:
    """The sum over rows of the largest probability; of tokens or several classes the row's mean."""
    if not values.shape[-1]:
        return 0.0
    return float(values.max(axis=-1).reshape(len(values), -1).mean(axis=1, dtype=np.float64).sum())
