"""Python's lists, as JSON has them, as a column: each row evenly nested, None where a value is missing."""

# R rows, n leaves

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.rows.column import UNEVEN_FIX, Column, Place, of_shapes

_KINDS = {bool: "true and false", int: "whole numbers", float: "numbers", str: "text", dict: "objects"}


def column_of(rows: Sequence[Any], place: Place) -> Column:
    """A column of R values, or of R nested lists, each of which is even.

    Raises:
        RowsError: rows of other numbers of dimensions, or elements that are no numbers and no text.
    """
    leaves, sizes = _flat(list(rows), len(rows), place)
    shapes = None
    if sizes is None:
        leaves, shapes = _row_by_row(rows, place)
    missing = np.array([_is_missing(leaf) for leaf in leaves], bool)
    values = _values([None if gone else leaf for leaf, gone in zip(leaves, missing, strict=True)])
    kinds = {type(leaf) for leaf, gone in zip(leaves, missing, strict=True) if not gone}
    kind = " and ".join(sorted(_KINDS.get(one, one.__name__) for one in kinds)) or "nothing"
    absent = missing if missing.any() else None
    if shapes is not None:
        return of_shapes(values, shapes, missing=absent, kind=kind)
    return Column(values, tuple(sizes or ()), len(rows), absent, kind)


def _flat(leaves: list[Any], rows: int, place: Place) -> tuple[list[Any], list[int] | None]:
    """All leaves, and the shape of a row; None where lists of one level have other lengths."""
    sizes: list[int] = []
    while any(isinstance(leaf, list | tuple | np.ndarray) for leaf in leaves):
        size = _length(leaves, rows, place)
        if size is None:
            return leaves, None
        sizes.append(size)
        leaves = list(chain.from_iterable(leaf.tolist() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves))
    return leaves, sizes


def _row_by_row(rows: Sequence[Any], place: Place) -> tuple[list[Any], NDArray[np.int64]]:
    """All leaves, and the shapes of the rows."""
    leaves, shapes = list[Any](), list[list[int]]()
    for row, value in enumerate(rows):
        of_row, sizes = _flat([value], 1, replace(place, start=place.start + row))
        if sizes is None:
            raise place.error(row, "lists of other lengths in it", UNEVEN_FIX)
        leaves += of_row
        shapes.append(sizes)
    levels = max(map(len, shapes))
    for row, sizes in enumerate(shapes):
        if 0 in sizes:  # nothing says how wide what is not there would be
            shapes[row] = [0] * levels
        elif len(sizes) < levels:
            raise place.error(row, f"{len(sizes)} levels of lists, and {levels} in another row", UNEVEN_FIX)
    return leaves, np.array(shapes, np.int64)


def _length(lists: list[Any], rows: int, place: Place) -> int | None:
    """How long all of these lists are; None where they are not of one length."""
    per_row = max(len(lists) // max(rows, 1), 1)
    for at, leaf in enumerate(lists):
        if not isinstance(leaf, list | tuple | np.ndarray):
            found = "a list is missing" if leaf is None else f"{leaf!r:.40} among lists"
            raise place.error(at // per_row, found, "give every row a list")
    sizes = {len(leaf) for leaf in lists}
    return sizes.pop() if len(sizes) == 1 else None


def _is_missing(leaf: Any) -> bool:
    # NaN is what pandas has for missing text, and NA is what it has besides.
    return leaf is None or type(leaf).__name__ in ("NAType", "NaTType") or (isinstance(leaf, float) and leaf != leaf)


def _values(leaves: list[Any]) -> Any:
    kinds = {type(leaf) for leaf in leaves if leaf is not None}
    if kinds == {bool}:
        return np.array([bool(leaf) for leaf in leaves])
    if kinds == {int} and all(-(1 << 63) <= leaf < 1 << 63 for leaf in leaves if leaf is not None):
        return np.array([leaf or 0 for leaf in leaves], np.int64)
    if kinds == {float} or (kinds == {int, float} and all(abs(leaf) <= 1 << 53 for leaf in leaves if leaf)):
        return np.array([np.nan if leaf is None else leaf for leaf in leaves], np.float64)
    found = np.empty(len(leaves), dtype=object)
    found[:] = leaves
    return found
