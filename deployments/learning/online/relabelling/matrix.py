"""What classes are called now, as a matrix that is the identity but for a few columns."""

# M members, N labels, C classes, K likely classes of a row

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.learning.online.relabelling.likely import Likely
from quorate.fusion.calibration.relabelling import Relabelling

Floats = NDArray[np.float64]
# Of a class by number: what it is called, by number, with shares of the sum 1.
Column = Mapping[int, float]
Named = Mapping[str, Mapping[str, float]]
# Columns whose shares are no further apart say the same.
ALIKE = 0.1
# So much of what somebody deployed stays in what replaces it.
KEPT = 0.02


@dataclass(frozen=True)
class Relabels:
    """Columns that are not the identity."""

    columns: Mapping[int, Column] = field(default_factory=dict)

    @classmethod
    def of_names(cls, relabel: Named, classes: Sequence[str]) -> Relabels:
        """As a spec says them."""
        number = {name: at for at, name in enumerate(classes)}
        return cls({number[old]: {number[new]: share for new, share in to.items()} for old, to in relabel.items()})

    def to_names(self, classes: Sequence[str]) -> dict[str, dict[str, float]]:
        """The same for a spec."""
        return {
            classes[old]: {classes[new]: share for new, share in sorted(to.items())}
            for old, to in sorted(self.columns.items())
        }

    def column(self, of: int) -> Column:
        """What one class is called."""
        return self.columns.get(of, {of: 1.0})

    def having(self, of: int, column: Column) -> Relabels:
        """The same but for one class."""
        others = {old: to for old, to in self.columns.items() if old != of}
        return Relabels(others if set(column) == {of} else {**others, of: column})

    def unlike(self, other: Relabels) -> Iterator[int]:
        """Classes that the other one calls otherwise."""
        for old in sorted(self.columns.keys() | other.columns.keys()):
            mine, theirs = self.column(old), other.column(old)
            if any(abs(mine.get(new, 0.0) - theirs.get(new, 0.0)) > ALIKE for new in mine.keys() | theirs.keys()):
                yield old

    def cells(self, cells: Floats, truth: NDArray[np.int64], likely: Likely) -> Floats:
        """(N, M) what each member gives to what is true when its classes are called so.

        Args:
            cells: (N, M) what each gives to the class of that name.
            truth: (N,) classes, by number.
            likely: of the same rows; other classes count for nothing in a class of another name.
        """
        if not self.columns:
            return cells
        found: Floats = cells.copy()
        for old, column in self.columns.items():
            found[truth == old] *= column.get(old, 0.0)
        for old, column in self.columns.items():
            said = likely.classes == old
            for new, share in column.items():
                rows, places = np.nonzero(said & (truth == new)[:, None]) if new != old else ((), ())
                if len(rows):
                    found[rows] += share * likely.given[rows, :, places]
        return found

    def answers(self, probabilities: Floats) -> Floats:
        """(R, C) by the classes that members call so, to the same by what these are called."""
        moves = tuple((old, tuple(sorted(column.items()))) for old, column in sorted(self.columns.items()))
        return np.asarray(Relabelling(moves).apply(torch.from_numpy(probabilities)))


BY_NAME = Relabels()


def answers_by(called: Sequence[Relabels], probabilities: Floats) -> Floats:
    """(R, C) probabilities, each row by what classes are called in its answer."""
    found: Floats = probabilities.copy()
    rows: dict[int, list[int]] = {}
    for at, one in enumerate(called):
        if one.columns:
            rows.setdefault(id(one), []).append(at)
    for some in rows.values():
        found[some] = called[some[0]].answers(probabilities[some])
    return found


def as_live(held: Column, pinned: Column) -> Column:
    """What goes live: so much of what somebody deployed stays that a row loses no more than its log to that."""
    found = {new: max(held.get(new, 0.0), KEPT * pinned.get(new, 0.0)) for new in held.keys() | pinned.keys()}
    total = sum(found.values())
    return {new: round(share / total, 4) for new, share in found.items()}
