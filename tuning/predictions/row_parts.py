"""Rows from several places as the rows of one split: those of a run before, and those that have come since.

What is known of what members say of them is taken; members are run on the others, all in one call, where there are
inputs.
"""

# N rows, n of some, C classes

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.later.more_rows import joined_rows
from quorate.tuning.data.later.row_keys import Keys
from quorate.tuning.data.mapped_arrays import taken_rows
from quorate.tuning.predictions.kept_rows import KeptRows
from quorate.tuning.predictions.run_in_graph import run_in_graph
from quorate.tuning.predictions.run_member import Runner
from quorate.tuning.predictions.store import PredictionStore, Rows

Numbers = NDArray[np.intp]
Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """Predictions of a split of a store that a member may be asked for by place.

    Attributes:
        unknown: members whose predictions there are of no use.
    """

    store: PredictionStore
    split: str
    unknown: set[str]

    def of(self, name: str, places: Numbers) -> Outputs | None:
        """(n, C) in any order of places; None of a member that is not known."""
        if name in self.unknown:
            return None
        order = np.argsort(places, kind="stable")
        said = self.store.take(self.split, [name], places[order])[0]
        found = np.empty(said.shape, np.float32)
        found[order] = said
        return found


@dataclass(frozen=True)
class Part:
    """Rows of one place.

    Attributes:
        keys, rows: of N rows; ``rows`` without inputs.
        copies: (place, kept): rows that stand at a place of something kept (-1: they do not), asked in this order.
        given: (N, C) by member what is known besides; NaN where nothing is.
        inputs: of the rows at ``with_inputs``.
        with_inputs: (N,) their place among ``inputs``, -1 of rows without.
    """

    keys: Keys
    rows: Labelled
    copies: Sequence[tuple[Numbers, Kept]] = ()
    given: Mapping[str, Outputs] = field(default_factory=dict)
    inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    with_inputs: Numbers = field(default_factory=lambda: np.zeros(0, np.intp))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(N,) whether members can be run on a row."""
        return self.with_inputs >= 0 if len(self.with_inputs) else np.zeros(len(self), np.bool_)

    def known(self, name: str, rows: Numbers) -> tuple[Outputs | None, NDArray[np.bool_]]:
        """(n, C) what a member said, None if of no row, and of which rows (n,) it said it or failed on."""
        found, there = None, np.zeros(len(rows), np.bool_)
        for places, kept in self.copies:
            some = np.flatnonzero((places[rows] >= 0) & ~there)
            said = kept.of(name, places[rows[some]]) if len(some) else None
            if said is not None:
                found = np.full((len(rows), said.shape[1]), np.nan, np.float32) if found is None else found
                found[some], there[some] = said, True
        if name in self.given:
            said = self.given[name][rows]
            some = np.flatnonzero(~there & np.isfinite(said).all(axis=1))
            found = np.full(said.shape, np.nan, np.float32) if found is None else found
            found[some], there[some] = said[some], True
        return found, there

    def read(self, rows: Numbers) -> dict[str, NDArray[Any]]:
        """Inputs of readable rows."""
        return {name: taken_rows(array, self.with_inputs[rows]) for name, array in self.inputs.items()}


class RowParts:
    """Several parts as one split.

    Attributes:
        ran: by member, how many rows it was run on.
        unknown: by member, how many rows nobody can say anything of.
    """

    def __init__(self, parts: Sequence[Part], spec: EnsembleSpec, folder: Path, run: Runner):
        self._parts, self._spec, self._folder, self._run = parts, spec, folder, run
        self._ends = np.cumsum([len(part) for part in parts])
        self.ran: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def kept(self) -> KeptRows:
        """What a store keeps of the rows."""
        keys = np.concatenate([part.keys for part in self._parts])
        return KeptRows.named(keys, joined_rows([part.rows for part in self._parts]))

    @property
    def row_bytes(self) -> int:
        """Of the inputs of a row."""
        arrays = [array for part in self._parts for array in part.inputs.values()]
        return max((array.nbytes // max(1, len(array)) for array in arrays), default=0)

    def predicted(self, name: str, rows: Rows) -> Outputs:
        """(n, C) what a member says of rows; NaN where it failed, or is not known and has nothing to read."""
        numbers = np.arange(len(self))[rows]
        found: list[Outputs | None] = []
        asked, inputs = list[NDArray[np.bool_]](), list[dict[str, NDArray[Any]]]()
        for part, local in self._by_part(numbers):
            said, there = part.known(name, local)
            need = ~there & part.readable[local]
            self.unknown[name] += int((~there & ~need).sum())
            found.append(said)
            asked.append(need)
            if need.any():
                inputs.append(part.read(local[need]))
        ran = self._ask(name, inputs)
        width = next((one.shape[1] for one in (*found, ran) if one is not None), len(self._spec.classes or (0,)))
        known = np.concatenate(
            [np.full((len(need), width), np.nan, np.float32) if one is None else one
             for one, need in zip(found, asked, strict=True)]
        )  # fmt: skip
        if ran is not None:
            known[np.concatenate(asked)] = ran
        return known

    def _ask(self, name: str, inputs: Sequence[Mapping[str, NDArray[Any]]]) -> Outputs | None:
        if not inputs:
            return None
        read = {key: joined([part[key] for part in inputs]) for key in inputs[0]}
        self.ran[name] += sum(len(next(iter(part.values()))) for part in inputs)
        return run_in_graph(self._spec, name, self._folder, read, self._run)

    def _by_part(self, numbers: Numbers) -> list[tuple[Part, Numbers]]:
        """Ascending numbers of rows as those of each part."""
        found = []
        for part, end in zip(self._parts, self._ends.tolist(), strict=True):
            start = end - len(part)
            some = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, end)] - start
            if len(some):
                found.append((part, some))
        return found


def joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows one after another; as objects where they have several shapes."""
    if len(arrays) == 1:
        return arrays[0]
    if len({array.shape[1:] for array in arrays}) == 1 and len({array.dtype for array in arrays}) == 1:
        return np.concatenate(arrays)
    found = np.empty(sum(map(len, arrays)), dtype=object)
    found[:] = [row for array in arrays for row in array]
    return found
