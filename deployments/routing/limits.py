"""How much a replica may have to answer before it takes no more: rows, and the bytes of them."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Of all calls that a replica has not answered yet; one call may be larger."""

    rows: int = 4096
    nbytes: int = 1 << 29


DEFAULT_LIMITS = Limits()
