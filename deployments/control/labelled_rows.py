"""New labelled rows of all doors of an ensemble, wherever they record them, each once."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.online.following import Follower, LabelledRows


class LabelledRowsOfDoors:
    """Of one record.

    Attributes:
        local: whether each node has a folder of its own.
    """

    def __init__(self, folder: str):
        found = RecordFolder(folder)
        self.local = found.local
        self._here = Follower(found)

    def new(self, nodes: Collection[str]) -> Iterator[LabelledRows]:
        """What is new.

        Args:
            nodes: the addresses of those that have doors.
        """
        yield from self._here.new()
