"""A change of an ensemble: under its lease, from what is true, and with nothing left behind that is not."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from quorate.deployments.control import serve_apps
from quorate.deployments.control.artifacts.holders import Holders
from quorate.deployments.control.describe import applications
from quorate.deployments.control.ray_private import ClusterStore, kept_root
from quorate.deployments.control.serve_apps import alive_apps, is_shared
from quorate.deployments.control.shared_members import claim, release
from quorate.deployments.errors import ClusterError, UnavailableError
from quorate.deployments.records.kept_files import drop_all_but
from quorate.deployments.records.lease import WAIT_S, Lease, hold
from quorate.deployments.records.registry import Record, Registry
from quorate.deployments.spec.fields.types import NAME_PATTERN

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """A change that is under way. Made by ``changing``.

    Attributes:
        record: what is true as it begins; None where the ensemble is not deployed.
        number: of the record that it may write.
    """

    record: Record | None
    number: int
    registry: Registry
    lease: Lease

    def commit(self, record: Record) -> None:
        """Make a record true.

        Raises:
            ConflictError: the lease was lost, or another change came first; nothing has changed.
        """
        self.lease.check()
        self.registry.write(record)

    def commit_down(self, ensemble: str) -> None:
        """Make it true that the ensemble is deployed no more; raises as ``commit`` does."""
        self.lease.check()
        self.registry.write_down(ensemble, self.number)


@contextmanager
def changing(ensemble: str, what: str, wait_s: float = WAIT_S, by_itself: bool = False) -> Iterator[Change]:
    """Change an ensemble. However this ends, what was started and is not true is taken away, and what was stopped and
    is true is started again; if this process dies, the next change does so.

    Args:
        what: the change is, for others who want to change it too.
        by_itself: whether nobody has asked for it; see ``hold``.

    Raises:
        ConflictError: somebody else changes it.
        ClusterError: no ensemble can be called so.
        UnavailableError: the cluster's head does not answer.
    """
    if not re.match(NAME_PATTERN, ensemble) or ensemble.endswith("\n"):  # copies are cleared away below its name
        raise ClusterError(f"no ensemble '{ensemble}' runs here; quorate status lists those that do")
    store = ClusterStore()
    registry = Registry(store)
    with hold(store, ensemble, what, wait_s, by_itself) as lease:
        restore(ensemble, registry.latest(ensemble))
        try:
            yield Change(registry.latest(ensemble), registry.number(ensemble) + 1, registry, lease)
        finally:
            _restore_if_held(ensemble, registry, lease)


def record_of(record: Record | None, name: str) -> Record:
    """What is true of an ensemble; raises ClusterError where none of this name runs."""
    if record is None:
        raise ClusterError(f"no ensemble '{name}' runs here; quorate status lists those that do")
    return record


def restore(ensemble: str, record: Record | None) -> None:
    """Have Serve run what a record says, and nothing else of the ensemble; what stops or starts is not waited for.

    Copies of files that no publication of the record needs go, too.
    """
    used = set() if record is None else record.apps
    for app in applications(ensemble):
        if app not in used:
            serve.delete(app, _blocking=False)
    release(ensemble, used)
    if record is not None:
        claim(record)
        missing = used - alive_apps()
        serve_apps.begin(app for app in recorded_apps(record) if app.name in missing)
    publications = () if record is None else record.publications
    kept = {publication.files.name.name for publication in publications}
    drop_all_but(ensemble, kept, kept_root())
    Holders(ClusterStore()).drop_all_but(Path(ensemble, "revisions"), kept)


def stop(apps: Iterable[str]) -> None:
    """Stop those applications that are one ensemble's, and wait until they have drained."""
    apps = sorted({app for app in apps if not is_shared(app)})
    with ThreadPoolExecutor(max(1, len(apps))) as pool:
        list(pool.map(serve.delete, apps))


def recorded_apps(record: Record) -> list[serve_apps.ServeApp]:
    """The applications of a record, as they were started."""
    live = record.live
    members = serve_apps.member_applications(live)
    for shadow in record.shadows:
        own = serve_apps.own_applications(shadow)
        members += [app for app in own if app.name not in {one.name for one in members}]
    doors = [
        serve_apps.door_application(live, record.doors, record.http_port, record.grpc_port, node)
        for node in record.door_apps
    ]
    learning = [serve_apps.online_application(live.spec)] if live.spec.online.mode != "off" else []
    return [*members, *learning, *doors]


def _restore_if_held(ensemble: str, registry: Registry, lease: Lease) -> None:
    try:
        lease.check()
        restore(ensemble, registry.latest(ensemble))
    except (UnavailableError, RayError, RayServeException) as error:
        # Taken over, or the cluster is away: the next change does it, and how this one ended is not hidden by it.
        _log.warning("what a change of %s left is taken away by the next: %s", ensemble, error)
