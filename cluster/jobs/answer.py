"""What an operation on a cluster said that has no object here: shown as it was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quorate.deployments.display import Displayed, Table


class JobAnswer(Displayed):
    """A result as data, and as it is shown."""

    def __init__(self, found: Mapping[str, Any]):
        self._data, self._tables = found["data"], [Table(**table) for table in found["tables"]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return dict(self._data)

    def tables(self) -> Sequence[Table]:
        return self._tables
