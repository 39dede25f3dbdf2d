"""Do a member's columns stand for the classes that the spec says? Those without names are taken by their place."""

# N rows, C classes

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from quorate.tuning.alternatives.base import Outputs

# How many standard deviations of a count of rows, at most, an order gains by chance.
_SIGMAS = 3.0


def fitting_order(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> tuple[int, ...] | None:
    """The class that each column stands for, where rows show beyond chance that it is another than its place says.

    Args:
        scores: (N, C) by column.
        labels: (N,) the true classes; of more than two each has to be there.

    Returns:
        (C,) classes; None where the columns fit as they stand, or nothing can be told.
    """
    classes = scores.shape[1]
    counts = np.zeros((classes, classes))
    np.add.at(counts, (scores.argmax(axis=1), labels), 1)
    if classes > 2 and not counts.sum(axis=0).all():
        return None
    order = linear_sum_assignment(counts, maximize=True)[1]
    gained = counts[np.arange(classes), order].sum() - counts.trace()
    return tuple(order.tolist()) if gained > _SIGMAS * np.sqrt(len(labels)) else None


def misplaced(rows: Outputs, classes: Sequence[str]) -> list[str]:
    """Members whose columns fit in another order, each as a sentence with what to write."""
    if rows.of_values or rows.lists or rows.labels.ndim != 1:
        return []
    found = []
    for name, scores in zip(rows.names, rows.probs, strict=True):
        order = fitting_order(scores, rows.labels)
        if order is not None:
            right = float((scores.argmax(axis=1) == rows.labels).mean())
            better = float((np.array(order)[scores.argmax(axis=1)] == rows.labels).mean())
            named = ", ".join(classes[place] for place in order)
            found.append(
                f"{name} is right on {right:.0%} of the rows, and on {better:.0%} if its columns are {named}: if so, "
                f"write under members.{name}: classes: [{named}]"
            )
    return found
