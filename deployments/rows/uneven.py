"""Rows of other lengths in one input: an array of arrays, one a row. What runs together has one shape."""

# R rows

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def is_uneven(array: Array) -> bool:
    """Whether it is (R,) arrays, and no tensor."""
    return array.dtype == object and array.ndim == 1 and len(array) > 0 and isinstance(array[0], np.ndarray)


def of_rows(rows: Sequence[Array]) -> Array:
    """(R,) arrays, whatever their shapes."""
    found = np.empty(len(rows), dtype=object)
    for number, row in enumerate(rows):
        found[number] = row
    return found


def concatenated(parts: Sequence[Array]) -> Array:
    """(R, *shape) of all parts, or (R,) arrays where rows have other shapes."""
    if len({part.shape[1:] for part in parts}) == 1 and not any(map(is_uneven, parts)):
        return np.concatenate(parts) if parts[1:] else parts[0]
    return np.concatenate([part if is_uneven(part) else of_rows(list(part)) for part in parts])


def runs(arrays: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Tensors of the rows, in their order: those that follow each other and have one shape together."""
    uneven = [array for array in arrays.values() if is_uneven(array)]
    if not uneven:
        yield dict(arrays)
        return
    for start, end in spans([tuple(row.shape for row in rows) for rows in zip(*uneven, strict=True)]):
        parts = {name: array[start:end] for name, array in arrays.items()}
        yield {name: np.stack(part.tolist()) if is_uneven(part) else part for name, part in parts.items()}


def batches(arrays: Mapping[str, Array], size: int) -> Iterator[dict[str, Array]]:
    """The same, of at most ``size`` rows each."""
    for start in range(0, len(next(iter(arrays.values()))), size):
        yield from runs({name: array[start : start + size] for name, array in arrays.items()})


def like_first(arrays: Mapping[str, Array]) -> NDArray[np.intp]:
    """The numbers of the rows that have the shapes of the first."""
    alike = np.ones(len(next(iter(arrays.values()))), dtype=np.bool_)
    for array in arrays.values():
        if is_uneven(array):
            alike &= [row.shape == array[0].shape for row in array]
    return np.flatnonzero(alike)


def spans(keys: Sequence[Any]) -> list[tuple[int, int]]:
    """Start and end of those that are equal and follow each other."""
    starts = [0, *(at for at in range(1, len(keys)) if keys[at] != keys[at - 1]), len(keys)]
    return list(pairwise(starts))
