"""Members that run once for all ensembles that have the same one: started for the first, stopped after the last."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ray import serve

from quorate.deployments.control.ray_private import ClusterStore, kept_root
from quorate.deployments.control.serve_apps import is_shared
from quorate.deployments.records.claims import Claims
from quorate.deployments.records.lease import hold
from quorate.deployments.records.registry import Record


def claim(record: Record) -> None:
    """Have nobody stop what an ensemble shares with others.

    Hold its lease.

    Raises:
        UnavailableError: the cluster's head does not answer.
    """
    name, shared = record.live.spec.name, set(filter(is_shared, record.member_apps))
    if shared:
        for app in sorted(shared - Claims(ClusterStore()).of(name)):
            with _alone(app) as claims:
                claims.add(app, name)


def release(ensemble: str, used: Iterable[str]) -> None:
    """Let go of all that an ensemble shares and does not use; what nobody has claimed stops, which is not waited for.

    Args:
        used: names of applications.
    """
    for app in sorted(Claims(ClusterStore()).of(ensemble) - set(used)):
        with _alone(app) as claims:
            if claims.holders(app) == {ensemble}:
                serve.delete(app, _blocking=False)
                shutil.rmtree(kept_root() / app, ignore_errors=True)
            claims.drop(app, ensemble)  # last: where this process dies before, the ensemble's next change does it


def runs_for_others(app: str, ensemble: str) -> bool:
    """Whether an application has to go on although an ensemble needs it no more."""
    return is_shared(app) and bool(Claims(ClusterStore()).holders(app) - {ensemble})


@contextmanager
def _alone(app: str) -> Iterator[Claims]:
    """Nobody claims an application while another looks whether anybody has."""
    store = ClusterStore()
    with hold(store, app, "a claim"):
        yield Claims(store)
