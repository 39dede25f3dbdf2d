"""Names of a model's inputs, which libraries change: which of them are the same."""

from __future__ import annotations

import re
from collections.abc import Sequence


def plain_name(name: str) -> str:
    """A name as a spec can write it, and as libraries change theirs: ``sepal length (cm)`` is ``sepal_length_cm``."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_")


def places_of(names: Sequence[str], given: Sequence[str]) -> list[int] | None:
    """Where each of a model's names stands among what it is given, which may be more.

    None where one is missing: all are there as they are, or all by their plain names, if these tell them apart.
    """
    if set(names) <= set(given):
        return [given.index(name) for name in names]
    plain, theirs = [plain_name(name) for name in given], [plain_name(name) for name in names]
    apart = len(set(plain)) == len(plain) and len(set(theirs)) == len(theirs)
    return [plain.index(name) for name in theirs] if apart and set(theirs) <= set(plain) else None
