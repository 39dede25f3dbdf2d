"""Labelled rows that come after others: as data, or as recorded answers, of which members need not be asked again."""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.later.row_keys import Keys, row_keys


@dataclass(frozen=True)
class MoreRows:
    """Rows with what is known of them.

    Attributes:
        keys: (N,) names of the rows (``row_keys``).
        rows: with their inputs; without any where these were not kept.
        outputs: (N, C) by member, what it gave when it was asked; NaN in a row that it did not answer.
        others: members that other ones stood for when answers were given -> in how many rows; NaN there.
    """

    keys: Keys
    rows: Labelled
    outputs: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def at(self, index: NDArray[Any]) -> MoreRows:
        """Some of the rows."""
        outputs = {name: array[index] for name, array in self.outputs.items()}
        return replace(self, keys=self.keys[index], rows=self.rows.rows(index), outputs=outputs)


def more_of_data(rows: Labelled) -> MoreRows:
    """Rows of which no member has been asked."""
    return MoreRows(row_keys(rows.inputs), rows)


def joined_rows(parts: list[Labelled]) -> Labelled:
    """Rows of all parts, without inputs; what one does not know of its rows is not known of all."""

    def both(name: str) -> NDArray[Any] | None:
        columns = [getattr(part, name) for part in parts]
        if any(column is None for column in columns):
            return None
        if len({column.dtype.kind in "iufb" for column in columns}) > 1:  # of one kind, or they say nothing together
            return None
        return np.concatenate(columns)

    labels = np.concatenate([part.labels for part in parts])
    return Labelled({}, labels, parts[0].classes, both("groups"), both("times"), both("weights"))
