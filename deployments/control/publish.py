"""Publishing on the cluster this process is connected to: one rollout at a time for each ensemble."""

from __future__ import annotations

from quorate.deployments.control.describe import describe
from quorate.deployments.control.ray_private import ClusterStore
from quorate.deployments.control.registry import Publication, Registry
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.control.rollout import Candidate, Check, roll_out


def candidate(publication: Publication) -> Candidate:
    """A publication before the fusion replicas that run now."""
    name = publication.spec.name
    return Candidate(publication, Replicas(name), len(describe(name)))


def publish(publication: Publication, check: Check | None = None, dropping: str = "") -> None:
    """Swap rule, weights, deadline, quorum or members on all fusion replicas while requests run.

    Every replica first builds the new revision; only when all have, they use it. Members that are new must run.

    Args:
        publication: of the same inputs, classes and serving as the running ensemble.
        check: looks at the revision before it goes live; what it raises keeps the old one.
        dropping: a revision to take out of the history.

    Raises:
        DeployError: a replica refused or is too busy to answer; nothing has changed.
        UnavailableError: another publication is under way.
    """
    registry = Registry(ClusterStore())
    with registry.lease(publication.spec.name):
        roll_out(candidate(publication), registry, check, dropping)
