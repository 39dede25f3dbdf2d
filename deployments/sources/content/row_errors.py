"""Rows that a member can make nothing of, found before it runs: they fail, and the others do not run twice for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class BadRowsError(ValueError):
    """Some rows of a batch cannot be read.

    Attributes:
        rows: what is wrong with each, by its number in the batch.
    """

    def __init__(self, rows: Mapping[int, str]):
        super().__init__(rows)
        self.rows = rows

    def __str__(self) -> str:
        return next(iter(self.rows.values()))


def each_row(read: Callable[[Any], T], rows: Sequence[Any] | NDArray[Any]) -> list[T]:
    """What is read from each row.

    Raises:
        BadRowsError: naming every row for which ``read`` raised ValueError.
    """
    found: list[T] = []
    wrong: dict[int, str] = {}
    for number, row in enumerate(rows):
        try:
            found.append(read(row))
        except ValueError as error:
            wrong[number] = str(error)
    if wrong:
        raise BadRowsError(wrong)
    return found


def one_a_row(array: NDArray[Any]) -> NDArray[Any]:
    """(B,) of (B,) or (B, 1): content, one a row.

    Raises:
        ValueError: rows hold another number of elements.
    """
    if array.ndim > 1 and array.shape[1:] != (1,):
        raise ValueError(f"a row holds {list(array.shape[1:])} elements where it should hold one; give it shape: []")
    return np.reshape(array, len(array))
