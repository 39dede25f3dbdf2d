"""Publishing on the cluster this process is connected to: a change of the fusion alone, while requests run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.control.transaction import changing, record_of
from quorate.deployments.records.lease import WAIT_S
from quorate.deployments.records.registry import Publication, Record
from quorate.deployments.rollout.rollout import Candidate, roll_out
from quorate.deployments.spec.ensemble import EnsembleSpec


def publish(
    ensemble: str, revise: Callable[[Record], EnsembleSpec | Publication], wait_s: float = WAIT_S,
    by_itself: bool = False, instead: bool = False,
) -> None:  # fmt: skip
    """Swap rule, weights, deadline or quorum on all fusion replicas.

    Every replica first builds the new revision; only when all have, they use it.

    Args:
        revise: makes the new spec of what is live then, or, where that needs other files, the whole publication:
            another may have come between.
        wait_s: for somebody else who is changing the ensemble.
        by_itself: whether nobody has asked for it; see ``hold``.
        instead: of what is live: that is no earlier revision to go back to.

    Raises:
        DeployError: a replica refused or is too busy to answer; nothing has changed.
        ConflictError: somebody else is changing the ensemble.
    """
    with changing(ensemble, "a publication", wait_s, by_itself) as change:
        old = record_of(change.record, ensemble)
        dropping = old.live.spec.revision if instead else ""
        found = revise(old)
        live = found if isinstance(found, Publication) else replace(old.live, spec=found)
        record = old.following(live, dropping)
        candidate = Candidate(record.live, Replicas(record.door_apps.values()), bring(record.live.files.of("")))
        roll_out(candidate, lambda: change.commit(record))
