"""What was published, ready to fuse: on this node, of its own files."""

from __future__ import annotations

from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.records.registry import Publication


def built(publication: Publication) -> Revision:
    """Its fusions."""
    return build_revision(publication.spec, bring(publication.files.of("")))
