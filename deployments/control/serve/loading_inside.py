"""Members that a fusion replica runs in its own process, loaded there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.ray_private import kept_root
from quorate.deployments.errors import SentError
from quorate.deployments.logs.files import LogFile
from quorate.deployments.records.registry import Publication
from quorate.fusion.errors import QuorateError

if TYPE_CHECKING:
    from quorate.deployments.members.inside.inside_members import InsideMembers


def load_inside(publication: Publication, app: str, members: Sequence[str], replica_id: str) -> InsideMembers:
    """Load members into this process, with the code of their own publication.

    Raises:
        SentError: one cannot be loaded; its log says more.
    """
    import ray

    from quorate.deployments.members.inside.inside_members import InsideMembers
    from quorate.deployments.sources.factory import search_only_in

    folder, node = bring(publication.files.of_parts(members)), ray.util.get_node_ip_address()
    search_only_in(folder, kept_root())
    jobs = [publication.spec.job(name) for name in members]
    logs = [LogFile(job.ensemble, job.name, replica_id, node) for job in jobs]
    try:
        node_id = ray.get_runtime_context().get_node_id()
        return InsideMembers(list(zip(jobs, logs, strict=True)), folder, app, node_id)
    except QuorateError as error:
        raise SentError(type(error).__name__, error.args) from None
