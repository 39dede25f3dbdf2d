"""Revisions by name, for what learns of bandits: who answered a row, and what somebody deployed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from quorate.deployments.control.built_revision import built
from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.kept_revisions import kept_revision
from quorate.deployments.learning.online.state import fusion_name
from quorate.deployments.records.registry import Publication, Record


class PolicyRevisions:
    """Of one ensemble."""

    def __init__(self, record: Callable[[], Record | None], folder: str):
        """Args:
        record: what is true now.
        folder: where answers are recorded; revisions that are no more in the registry are beside them.
        """
        self._record, self._folder = record, RecordFolder(folder)

    def writer(self, name: str) -> Revision:
        """Whoever answered by this name.

        Raises:
            RequestError: it is to be had no more.
        """
        record = self._record()
        for publication in () if record is None else record.publications:
            if publication.spec.revision == name:
                return built(publication)
        with TemporaryDirectory(prefix="q") as scratch:
            return kept_revision(self._folder, name, Path(scratch))


def deployed(record: Record, fusion: str) -> Publication:
    """What somebody deployed, by its ``fusion_name``; what is live where that is to be had no more."""
    earlier = (one for one in reversed(record.earlier) if fusion_name(one.spec) == fusion)
    return record.live if fusion_name(record.live.spec) == fusion else next(earlier, record.live)
