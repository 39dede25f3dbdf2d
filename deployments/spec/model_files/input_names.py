"""What a model calls its inputs, where the spec calls them otherwise: ``inputs: {THEIRS: OURS}`` of a member."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def with_input_names(member: Any) -> Any:
    """Of a mapping under a member's ``inputs`` make the list of what it reads, and ``input_names`` of it."""
    read = member.get("inputs") if isinstance(member, Mapping) else None
    if not isinstance(read, Mapping) or not all(isinstance(source, str) for source in read.values()):
        return member
    called = {source: theirs for theirs, source in read.items()}
    return {**member, "inputs": list(read.values()), "input_names": {**member.get("input_names", {}), **called}}


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
