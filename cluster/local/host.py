"""The background process that owns the local cluster: ``python -m quorate.cluster.local.host FOLDER``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from quorate.cluster.local.cluster import hosting


def wait_for_signal() -> None:
    """Return at SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1.0):  # a wait without a timeout would hold back Python's signal handlers
        pass


def main(folder: str) -> None:
    os.chdir("/")  # hold no folder of the user's
    with hosting(Path(folder)):
        wait_for_signal()


if __name__ == "__main__":
    main(sys.argv[1])
