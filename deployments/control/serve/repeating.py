"""What a replica does again and again, beside what it is asked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


def repeat(name: str, period_s: float, work: Callable[[], None], failed: str) -> Callable[[], None]:
    """Do something every so often on a thread of its own, whatever it raises; what comes after is not to be missed.

    Args:
        name: the thread's.
        period_s: from the end of one time to the beginning of the next, and before the first.
        failed: what to log where it raises, with the error; once, until it raises something else or nothing.

    Returns:
        What ends it; a time that has begun is not waited for.
    """
    over = threading.Event()

    def go_on() -> None:
        said = ""
        while not over.wait(period_s):
            said = _attempt(work, failed, said)

    threading.Thread(target=go_on, name=name, daemon=True).start()
    return over.set


def _attempt(work: Callable[[], None], failed: str, said: str) -> str:
    """What it raised, empty for nothing; logged where it is not what was ``said`` before."""
    try:
        work()
    except Exception as error:
        found = repr(error)
        if found != said:
            _log.warning("%s: %s", failed, found)
        return found
    return ""
