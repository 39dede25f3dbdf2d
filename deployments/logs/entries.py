"""Entries of a log: lines that begin with the time, and those without that follow them, such as of a traceback."""

from __future__ import annotations

import re
from calendar import timegm
from time import mktime, strptime

# By the clock of the node, or in UTC as ISO 8601 has it, alone or as the first field of JSON.
_TIME = re.compile(r'(?:\{"time":")?(\d{4}-\d\d-\d\d)([ T])(\d\d:\d\d:\d\d)')


def written_since(text: str, earliest: float) -> str:
    """The entries that were written then or later.

    Args:
        text: entries, the oldest first.
        earliest: in seconds since 1970, of which a log has whole ones.
    """
    lines = text.splitlines(keepends=True)
    start = len(lines)
    for place in range(len(lines) - 1, -1, -1):
        at = _time_of(lines[place])
        if at is not None and at < int(earliest):
            break
        start = place if at is not None else start
    return "".join(lines[start:])


def _time_of(line: str) -> float | None:
    """When a line was written; None for one that belongs to what stands before it."""
    found = _TIME.match(line)
    if found is None:
        return None
    try:
        at = strptime(f"{found[1]} {found[3]}", "%Y-%m-%d %H:%M:%S")
    except ValueError:  # a member prints what it likes
        return None
    return float(timegm(at)) if found[2] == "T" else mktime(at)
