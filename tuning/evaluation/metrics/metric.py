"""A metric as numbers of each row and what their mean is worth: so that rows can be drawn anew without fusing anew."""

# N rows, F numbers a row

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.fields.types import Task
from quorate.fusion.sequences.decoding import decode_flat, first_tokens
from quorate.fusion.sequences.tags import TagScheme
from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.scoring import Floats

# Labels (N,), fused (N, C) and how much each row counts (N,), or None, to (N, F).
RowNumbers = Callable[[NDArray[Any], NDArray[Any], Any], Floats]
OF_CLASSES: tuple[Task, ...] = ("classification", "binary", "tagging", "tokens")


@dataclass(frozen=True)
class RowMetric:
    """A metric of fused rows.

    Attributes:
        unit: what differences of it are called.
        rows: the numbers; their weighted mean is exactly what ``value`` reads.
        value: means (..., F) of those numbers to (...).
        task: of what members predict.
        higher_is_better: False for a loss.
        decides: what the metric reads is the most probable class alone, or which labels reach one half; ``costs``
            (C, C) of decisions where given.
        level: of a quantile that values are compared with.
        top: of a ranking the places that count; None for all.
        of_tags: rows are tokens and the metric reads their decoded tags: ``rows`` takes those in place of what is
            fused, and which tokens are the first of their sequences. ``scheme`` is how the classes say spans.
        moments: it reads means and variances.
    """

    name: str
    unit: str
    rows: RowNumbers
    value: Callable[[Floats], Floats]
    task: Task = "classification"
    higher_is_better: bool = False
    decides: bool = False
    costs: Floats | None = None
    level: float = 0.5
    top: int | None = None
    of_tags: bool = False
    scheme: TagScheme | None = None
    moments: bool = False

    @property
    def of_values(self) -> bool:
        """It reads values, or probabilities of labels each by itself, not of classes."""
        return self.task not in OF_CLASSES

    @property
    def of_labels(self) -> bool:
        """It reads which of several labels are said: thresholds are among what is compared."""
        return self.task == "multilabel" and self.decides

    def numbers(self, outputs: Outputs, fused: NDArray[Any]) -> Floats:
        """(N, F) of answered rows."""
        if not self.of_tags:
            return self.rows(outputs.labels, fused, outputs.weights)
        sequences = np.arange(len(outputs)) if outputs.sequences is None else outputs.sequences
        tags, (order, first) = decode_flat(fused, sequences, self.scheme), first_tokens(sequences)
        numbers = self.rows(outputs.labels[order], tags[order], first)
        back = np.empty_like(numbers)
        back[order] = numbers
        return back

    def loss(self, outputs: Outputs, fused: NDArray[Any]) -> float:
        """Of answered rows: the metric, or minus it where higher is better."""
        value = float(self.value(np.average(self.numbers(outputs, fused), axis=0, weights=outputs.weights)))
        return -value if self.higher_is_better else value

    def gain(self, before: Floats, after: Floats) -> Floats:
        """How much better the second is than the first."""
        return np.asarray(after - before if self.higher_is_better else before - after)


def only(means: Floats) -> Floats:
    """The value of a metric that is a mean over rows."""
    return np.asarray(means[..., 0])


def root(means: Floats) -> Floats:
    """The root of a mean over rows."""
    return np.asarray(np.sqrt(means[..., 0]))
