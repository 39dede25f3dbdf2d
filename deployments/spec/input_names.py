"""What a model calls its inputs, where the spec calls them otherwise: ``inputs: {THEIRS: OURS}`` of a member."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_input_names(member: Any) -> Any:
    """Of a mapping under a member's ``inputs`` make the list of what it reads, and ``input_names`` of it."""
    read = member.get("inputs") if isinstance(member, Mapping) else None
    if not isinstance(read, Mapping) or not all(isinstance(source, str) for source in read.values()):
        return member
    called = {source: theirs for theirs, source in read.items()}
    return {**member, "inputs": list(read.values()), "input_names": {**member.get("input_names", {}), **called}}
