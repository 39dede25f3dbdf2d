"""Two halves of labelled rows: one to fit on, one to judge on."""

# N rows

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.errors import DataError

Numbers = NDArray[np.intp]


def halves(
    labels: NDArray[Any], groups: NDArray[Any] | None = None, times: NDArray[Any] | None = None, seed: int = 0
) -> tuple[Numbers, Numbers]:
    """Numbers of the rows of each half, ascending.

    Without groups and times both have the same mix of labels: shuffled within each label, or by value, then dealt out
    in turn. All rows of one group come into one half, groups dealt out by how many rows they have; with times the
    earlier half comes first, and rows of one time are never apart.

    Raises:
        DataError: fewer than two rows, groups or times.
    """
    count = len(labels)
    for name, column in (("rows", np.arange(count)), ("groups", groups), ("times", times)):
        if column is not None and len(np.unique(column)) < 2:
            raise DataError(name, f"{len(np.unique(column))}", "give hundreds" if name == "rows" else "give at least 2")
    random = np.random.default_rng(seed)
    if times is not None:
        first: NDArray[np.bool_] = _earlier(times)
    elif groups is not None:
        first = _of_groups(groups, random)
    else:
        by = labels if labels.ndim == 1 else np.zeros(count)  # of several values none leads
        order = np.lexsort((random.random(count), by))
        first = np.zeros(count, dtype=bool)
        first[order[::2]] = True
    return np.flatnonzero(first), np.flatnonzero(~first)


def _earlier(times: NDArray[Any]) -> NDArray[np.bool_]:
    """The rows up to the time that leaves both sides as even as can be."""
    moments, counts = np.unique(times, return_counts=True)
    before = np.cumsum(counts)[:-1]
    last = moments[int(np.abs(before - len(times) / 2).argmin())]
    return np.asarray(times <= last)


def _of_groups(groups: NDArray[Any], random: np.random.Generator) -> NDArray[np.bool_]:
    """Rows of groups dealt out from the largest on, each to the side that has fewer rows."""
    _, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    number = np.asarray(number).reshape(-1)
    sizes, first = [0, 0], np.zeros(len(counts), dtype=bool)
    for group in np.lexsort((random.random(len(counts)), -counts)):
        side = int(sizes[1] < sizes[0])
        first[group] = side == 0
        sizes[side] += counts[group]
    return np.asarray(first[number])
