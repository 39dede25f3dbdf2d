"""Where what outlives a cluster is kept on this machine: how the local one is found, and the logs of members."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """``QUORATE_HOME``, else ``~/.quorate``; made where it is not there, for this user alone.

    Raises:
        OSError: it cannot be made.
    """
    folder = Path(os.environ.get("QUORATE_HOME") or Path.home() / ".quorate")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
