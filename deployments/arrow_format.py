"""What both ends of an Arrow stream agree on beside Arrow itself."""

from __future__ import annotations

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
# Metadata, JSON objects both: of a request's schema and of an answer's record batch, its parameters; of the empty
# record batch that ends a failed answer, ``error`` and the HTTP ``status`` that it would have had.
PARAMETERS, ERROR = b"parameters", b"error"


class Sink:
    """A file that is only written to; ``take`` gives what came since."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
