"""Text of files without types, .csv, read as numbers."""

# n leaves

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.rows.column import Column

# What pandas, R and spreadsheets write where a number is missing.
MISSING = {"", "na", "n/a", "#n/a", "nan", "-nan", "null", "none"}
_FLAGS = {"true": True, "false": False}
_LONGEST = 400  # of a number's text: an array of text is as wide as its longest


def typed(column: Column) -> Column:
    """Text without a type as bool, int64, uint64 or float64 where all of it reads so; other columns as they are."""
    if not column.written:
        return column
    words, absent = words_of(column)
    if absent.all():
        return replace(column, written=False, missing=absent)
    for parse, blank in _PARSERS:
        words[absent] = blank
        found = parse(words)
        if found is not None:
            missing = absent if absent.any() else None
            return Column(found, column.sizes, column.rows, missing, str(found.dtype))
    return replace(column, written=False)


def words_of(column: Column) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(n,) text without spaces around it, and (n,) where it says that there is no number."""
    words = np.array(["" if word is None else word.strip() for word in column.values.tolist()], dtype=object)
    absent = np.array([word.lower() in MISSING for word in words.tolist()], bool)
    return words, absent if column.missing is None else absent | column.missing


def bad_number(words: NDArray[Any]) -> int:
    """Which is the first that reads as no number; the last where each does, but not all as one kind."""
    return next((place for place, word in enumerate(words.tolist()) if not _is_number(word)), len(words) - 1)


def _is_number(word: str) -> bool:
    return word.lower() in _FLAGS or _numbers(np.array([word], object), np.float64) is not None


def _flags(words: NDArray[Any]) -> NDArray[Any] | None:
    found = [_FLAGS.get(word.lower()) for word in words.tolist()]
    return None if None in found else np.array(found, bool)


def _numbers(words: NDArray[Any], kind: Any) -> NDArray[Any] | None:
    listed = words.tolist()
    if any("_" in word or len(word) > _LONGEST for word in listed):  # Python's numbers may hold a _, a file's may not
        return None
    try:
        return np.array(listed).astype(kind)
    except (ValueError, OverflowError):
        return None


_PARSERS: tuple[tuple[Callable[[NDArray[Any]], NDArray[Any] | None], str], ...] = (
    (_flags, "false"),
    *((partial(_numbers, kind=kind), "0") for kind in (np.int64, np.uint64, np.float64)),
)
