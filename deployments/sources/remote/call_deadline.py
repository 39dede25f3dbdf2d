"""When somebody still waits for what a member computes now: models that wait for others need to know."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar

_EXPIRES = ContextVar("expires", default=math.inf)


def set_deadline(expires: float) -> None:
    """From here on models are called for somebody who waits until then (monotonic time)."""
    _EXPIRES.set(expires)


def remaining_s(limit_s: float) -> float:
    """Seconds that are left, ``limit_s`` at most; 0 or less where nobody waits any more."""
    return min(limit_s, _EXPIRES.get() - time.monotonic())
