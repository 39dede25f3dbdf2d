"""What is kept of rows with labels beside what members gave to what was true: the classes that they said most."""

# M members, N rows, C classes, K likely classes of a row

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# So many of each row; what is none of them has less than a fifth of it.
KEPT = 4
NOBODY = -1


@dataclass(frozen=True)
class Likely:
    """Of N rows.

    Attributes:
        classes: (N, K) that all members together say most, by number, the most first; NOBODY where there are fewer.
        given: (N, M, K) float32, what each member gives them, 0 of one that is missing.
        means: (N, K) the same by all together, all alike: a class that one of them knows is not lost to all.
        truth: (N,) what all together give to what was true.
    """

    classes: NDArray[np.int64]
    given: NDArray[np.float32]
    means: Floats
    truth: Floats

    def __getitem__(self, rows: Any) -> Likely:
        """Some of them."""
        return Likely(*(getattr(self, one.name)[rows] for one in fields(self)))

    @classmethod
    def of(cls, values: NDArray[Any], present: NDArray[np.bool_], truth: NDArray[np.int64]) -> Likely:
        """Of (M, N, C) probabilities, by the (N, M) members that gave them, and (N,) truth."""
        there = present.T[:, :, None]
        said = np.where(there, values, 0.0)
        means = said.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
        count = min(KEPT, means.shape[1])
        rows = np.arange(len(means))[:, None]
        top = np.argpartition(-means, count - 1, axis=1)[:, :count] if len(means) else np.zeros((0, count), np.intp)
        top = top[rows, np.argsort(-means[rows, top], axis=1, kind="stable")]
        found = cls.nothing(len(means), len(values))
        found.classes[:, :count] = top
        found.given[:, :, :count] = said[:, rows, top].transpose(1, 0, 2)
        found.means[:, :count] = means[rows, top]
        found.truth[:] = means[rows[:, 0], truth]
        return found

    @classmethod
    def nothing(cls, count: int, members: int) -> Likely:
        """Of so many rows nothing is known: labels are read as they are."""
        shape = (count, KEPT)
        given = np.zeros((count, members, KEPT), np.float32)
        return cls(np.full(shape, NOBODY), given, np.zeros(shape), np.ones(count))

    @classmethod
    def joined(cls, parts: Sequence[tuple[NDArray[np.intp], Likely]], members: int) -> Likely:
        """Parts whose members have these places among so many."""
        found = cls.nothing(sum(len(part.truth) for _, part in parts), members)
        start = 0
        for places, part in parts:
            rows = slice(start, start + len(part.truth))
            found.given[rows, places] = part.given
            found.classes[rows], found.means[rows], found.truth[rows] = part.classes, part.means, part.truth
            start += len(part.truth)
        return found
