"""Members that run once for all ensembles that have the same one: started for the first, stopped after the last."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ray import serve

from quorate.deployments.control.ray_private import ClusterStore, kept_root
from quorate.deployments.control.serve_apps import is_shared
from quorate.deployments.records.claims import Claims
from quorate.deployments.records.kept_files import keep_member
from quorate.deployments.records.lease import hold
from quorate.deployments.records.registry import Publication


def claim(publication: Publication) -> None:
    """Have nobody stop what a publication shares, and keep its files for as long as it runs; hold the lease.

    Raises:
        UnavailableError: the cluster's head does not answer.
    """
    spec = publication.spec
    for member, app in publication.apps.items():
        if is_shared(app):
            with _alone(app) as claims:
                claims.add(app, spec.name)
                if publication.kept.is_dir() and publication.kept != publication.folder:
                    keep_member(spec, member, publication.kept, publication.folder, kept_root() / app)


def release(ensemble: str, used: Iterable[str] = ()) -> None:
    """Let go of all that an ensemble shares and does not use; what nobody has claimed stops, which is not waited for.

    Args:
        used: names of applications.
    """
    for app in sorted(Claims(ClusterStore()).of(ensemble) - set(used)):
        with _alone(app) as claims:
            claims.drop(app, ensemble)
            if not claims.holders(app):
                serve.delete(app, _blocking=False)
                shutil.rmtree(kept_root() / app, ignore_errors=True)


@contextmanager
def _alone(app: str) -> Iterator[Claims]:
    """Nobody claims an application while another looks whether anybody has."""
    store = ClusterStore()
    with hold(store, app, "a claim"):
        yield Claims(store)
