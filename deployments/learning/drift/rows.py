"""Answered rows as drift looks at them, and what of them makes one draw: an answer, however many rows it has."""

# M members, R rows, D answers, S numbers of a row

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.transport.row_state import RowState

Array = NDArray[Any]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
ONE_CLASS, TOKENS = ("classification", "binary"), ("tokens", "tagging")
# Rows of a task whose numbers say nothing by themselves.
_LISTS = ("ranking",)
_OK, _UNASKED, _SHED = int(RowState.OK), int(RowState.UNASKED), int(RowState.SHED)


@dataclass(frozen=True)
class Subject:
    """Whose answers are watched.

    Attributes:
        members: M names, in the order of ``Rows.outputs``.
        classes: none of values.
        apart: whether ``Rows.outputs`` has each member's own answer, and not features side by side.
    """

    task: str
    members: tuple[str, ...]
    classes: tuple[str, ...] = ()
    apart: bool = True

    @property
    def of_classes(self) -> bool:
        return bool(self.classes) and self.task not in _LISTS

    @property
    def of_values(self) -> bool:
        return not self.classes and self.task not in _LISTS

    @property
    def answering(self) -> tuple[str, ...]:
        """Those whose own answers are there."""
        return self.members if self.apart else ()


@dataclass(frozen=True)
class Rows:
    """Rows of one output.

    Attributes:
        outputs: (M, R, ...) of members, before any calibration.
        states: (M, R) RowState.
        fused: (R, ...) what was answered, and ``said`` (R,) whether anything was.
        answers: (R,) rows of one answer stand together and have one number.
        times_s: (R,) in seconds since 1970.
        truth: (R,) classes by number, (R, C) 0 or 1 of several labels a row, or (R, ...) values; None without labels.
    """

    outputs: Array
    states: NDArray[np.uint8]
    fused: Array
    said: Mask
    answers: NDArray[np.int64]
    times_s: Floats
    truth: Array | None = None

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def nbytes(self) -> int:
        """What members and answers hold."""
        return int(self.outputs.nbytes + self.fused.nbytes)

    @property
    def given(self) -> Mask:
        """(M, R) whether a member gave the row."""
        return np.asarray(self.states == _OK)

    @property
    def asked(self) -> Mask:
        """(M, R) whether a member was asked for it, and not left out on purpose."""
        return np.asarray((self.states != _UNASKED) & (self.states != _SHED))

    def part(self, at: Any) -> Rows:
        """Some of the rows."""
        truth = None if self.truth is None else self.truth[at]
        return Rows(
            self.outputs[:, at], self.states[:, at], self.fused[at], self.said[at], self.answers[at],
            self.times_s[at], truth,
        )  # fmt: skip

    def with_truth(self, truth: Array) -> Rows:
        """The same rows, of which it is known what is true."""
        return replace(self, truth=truth)


def draws(numbers: Floats, answers: NDArray[np.int64]) -> tuple[Floats, NDArray[np.intp]]:
    """(D, S) the mean of each answer's rows, NaN where none of them has the number; and (D,) each one's last row."""
    starts = np.flatnonzero(np.concatenate([[True], answers[1:] != answers[:-1]]))
    ends = np.concatenate([starts[1:], [len(answers)]]) - 1
    if len(starts) == len(answers):
        return numbers, ends
    known = ~np.isnan(numbers)
    sums = np.add.reduceat(np.where(known, numbers, 0.0), starts, axis=0)
    counts = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), ends
