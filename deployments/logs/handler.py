"""What our own code logs, by Python's logging, into a log that is kept."""

from __future__ import annotations

import logging

from quorate.deployments.logs.files import LogFile
from quorate.deployments.logs.lines import LogLevel

# In place of a member's name, for what the doors of an ensemble write; none has such a name.
DOORS = "@doors"


class KeptLog(logging.Handler):
    """Passes records on."""

    def __init__(self, log: LogFile):
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level: LogLevel = "error" if record.levelno >= logging.ERROR else "warning"
        self._log.write(self.format(record), "info" if record.levelno < logging.WARNING else level)


def keep_own(log: LogFile) -> None:
    """From now on keep what Quorate's own code logs in this process."""
    own = logging.getLogger("quorate")
    own.setLevel(logging.INFO)
    own.addHandler(KeptLog(log))
