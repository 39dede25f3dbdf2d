"""Python's lists, as JSON has them, as a column: evenly nested, None where a value is missing."""

# R rows, n leaves

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from quorate.deployments.rows.column import UNEVEN_FIX, Column, Place

_KINDS = {bool: "true and false", int: "whole numbers", float: "numbers", str: "text", dict: "objects"}


def column_of(rows: Sequence[Any], place: Place) -> Column:
    """A column of R values, or of R nested lists of one shape.

    Raises:
        RowsError: rows of different shapes, or elements that are no numbers and no text.
    """
    sizes: list[int] = []
    leaves: list[Any] = list(rows)
    while any(isinstance(leaf, list | tuple | np.ndarray) for leaf in leaves):
        sizes.append(_length(leaves, len(rows), place))
        leaves = list(chain.from_iterable(leaf.tolist() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves))
    missing = np.array([_is_missing(leaf) for leaf in leaves], bool)
    values = _values([None if gone else leaf for leaf, gone in zip(leaves, missing, strict=True)])
    kinds = {type(leaf) for leaf, gone in zip(leaves, missing, strict=True) if not gone}
    kind = " and ".join(sorted(_KINDS.get(one, one.__name__) for one in kinds)) or "nothing"
    return Column(values, tuple(sizes), len(rows), missing if missing.any() else None, kind)


def _length(lists: list[Any], rows: int, place: Place) -> int:
    """How long all of these lists are."""
    per_row = max(len(lists) // max(rows, 1), 1)
    size = next(len(leaf) for leaf in lists if isinstance(leaf, list | tuple | np.ndarray))
    for at, leaf in enumerate(lists):
        if not isinstance(leaf, list | tuple | np.ndarray):
            found = "a list is missing" if leaf is None else f"{leaf!r:.40} among lists"
            raise place.error(at // per_row, found, "give every row a list")
        if len(leaf) != size:
            found = f"a list of {len(leaf)}, and of {size} before"
            raise place.error(at // per_row, found, UNEVEN_FIX)
    return size


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
