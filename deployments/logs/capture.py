"""What a member prints, and what it warns of, into its log as well."""

from __future__ import annotations

import sys
import threading
from typing import Any, TextIO, cast

from quorate.deployments.logs.files import LogFile
from quorate.deployments.logs.lines import LogLevel

_MAX_LINE = 16_384


class Copied:
    """A stream that passes everything on, and keeps whole lines in a log."""

    def __init__(self, stream: TextIO, log: LogFile, level: LogLevel = "info"):
        self._stream, self._log, self._level = stream, log, level
        self._open_line = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        with self._lock:
            *lines, self._open_line = (self._open_line + text)[-_MAX_LINE:].split("\n")
        for line in filter(str.strip, lines):
            self._log.write(line, self._level)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def copy_output(log: LogFile) -> None:
    """From now on keep what this process writes to its standard output and error."""
    sys.stdout, sys.stderr = cast(TextIO, Copied(sys.stdout, log)), cast(TextIO, Copied(sys.stderr, log, "warning"))
