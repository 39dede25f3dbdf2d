"""Times as people read them."""

from __future__ import annotations

from datetime import datetime, timezone


def date_of(time_us: int) -> str:
    """Of microseconds since 1970, in UTC."""
    return datetime.fromtimestamp(time_us / 1e6, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
