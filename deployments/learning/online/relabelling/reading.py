"""Labels as they are read: by what classes were believed to be called when they came, and when rows were answered."""

# M members, N labels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.online.relabelling.likely import Likely
from quorate.deployments.learning.online.relabelling.matrix import Relabels
from quorate.deployments.learning.online.relabelling.renamings import Renamings

Floats = NDArray[np.float64]
# What was believed is known of so many changes; rows that were answered before read the oldest of these.
REMEMBERED = 1000


@dataclass(frozen=True)
class Read:
    """N labels.

    Attributes:
        cells: (N, M) what each member gave to what is true as it was called when the label came.
        before: (N,) which version of ``versions`` that was, and ``after`` (N,) which with it.
        used: (N,) which was known when the row was answered.
        known: (N,) how likely each label was by what all members say together, before it came.
        versions: what was believed.
    """

    cells: Floats
    before: NDArray[np.intp]
    after: NDArray[np.intp]
    used: NDArray[np.intp]
    known: Floats
    versions: Sequence[Relabels]

    def __getitem__(self, rows: Any) -> Read:
        """Some of them."""
        some = {one.name: getattr(self, one.name)[rows] for one in fields(self) if one.name != "versions"}
        return replace(self, **some)


class Reading:
    """Reads labels in the order in which they come.

    Attributes:
        versions: what was believed, and ``since`` from after how many labels.
    """

    def __init__(self, classes: int, first: Relabels):
        """Args:
        classes: C.
        first: what classes are called in the revision that somebody deployed.
        """
        self._renamings = Renamings(classes, first)
        self.versions, self.since, self._labels = [first], [0], 0

    def read(self, cells: Floats, truth: NDArray[np.int64], likely: Likely, known: NDArray[np.intp]) -> Read:
        """Take N labels.

        Args:
            cells: (N, M) what each member gave to the class of that name.
            known: (N,) how many labels had come when each row was answered.
        """
        said, changes = self._renamings.learn(truth, likely)
        for at, held in changes:
            self.versions.append(held)
            self.since.append(self._labels + at + 1)
        own = self._labels + np.arange(len(truth))
        self._labels += len(truth)
        before = self._at(own)
        read = cells_by(self.versions, before, cells, truth, likely)
        found = Read(read, before, self._at(own + 1), self._at(np.minimum(known, own)), said, list(self.versions))
        self.versions, self.since = self.versions[-REMEMBERED:], self.since[-REMEMBERED:]
        return found

    def at(self, known: NDArray[np.intp]) -> list[Relabels]:
        """What was believed after so many labels."""
        return [self.versions[at] for at in self._at(known)]

    def _at(self, known: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.maximum(np.searchsorted(self.since, known, side="right") - 1, 0)


def cells_by(
    versions: Mapping[int, Relabels] | Sequence[Relabels],
    used: NDArray[np.intp],
    cells: Floats,
    truth: NDArray[np.int64],
    likely: Likely,
) -> Floats:
    """(N, M) what members gave to what is true, each row's classes called as its version says."""
    some = [int(one) for one in np.unique(used) if versions[one].columns]
    if not some:
        return cells
    found: Floats = cells.copy()
    for one in some:
        rows = used == one
        found[rows] = versions[one].cells(cells[rows], truth[rows], likely[rows])
    return found
