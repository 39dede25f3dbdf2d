"""A running ensemble as one object: ask it, look at it, publish into it, roll back, take it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from numpy.typing import ArrayLike

from quorate.cluster.local.connection import connected, is_jobs_address
from quorate.cluster.operations.down import Stopped, down
from quorate.cluster.operations.rollback import RolledBack, rollback
from quorate.cluster.operations.status import EnsembleStatus, classes_of, http_urls, running_fusion, status, status_of
from quorate.deployments.client.client import Client
from quorate.deployments.client.failover import door_urls
from quorate.deployments.client.inference import Inputs
from quorate.deployments.client.result import Result
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import ClusterError
from quorate.deployments.security.credentials import Credentials


class Ensemble(Displayed):
    """An ensemble that runs. It stays up when this object goes; ``down`` takes it down.

    Attributes:
        name: of the ensemble.
        urls: of its HTTP doors; ``url`` is the first.
        grpc: host:port of its gRPC door; empty where it was connected to by URL.
        revision: that answered when it was last looked at from here; empty where it was connected to by URL.
        classes: what its output columns stand for; none where it was connected to by URL.
        members: how many replicas of each run; none where it was connected to by URL.
        client: what asks it, for all that ``infer`` does not do.
        note: what the operator should know of how it was deployed; empty for nothing.
    """

    def __init__(
        self,
        name: str,
        url: str | Sequence[str],
        *,
        grpc: str = "",
        revision: str = "",
        members: Mapping[str, int] | None = None,
        classes: Sequence[str] = (),
        address: str | None = None,
        credentials: Credentials | None = None,
        note: str = "",
    ):
        self.note = note
        self.name, self.grpc, self.revision, self.classes = name, grpc, revision, tuple(classes)
        self.urls = door_urls(url)
        self.url = self.urls[0]
        self.members = dict(members or {})
        self.client = Client(self.urls, credentials=credentials, model=name)
        self._address = address

    def infer(self, inputs: Inputs | None = None, /, **named: ArrayLike) -> Result:
        """Ask it: ``ensemble.infer(image=rows, deadline_ms=50)``, as ``Client.infer``."""
        return self.client.infer(self.name, inputs, **named)

    def status(self) -> EnsembleStatus:
        """Its revision, doors and replicas.

        Raises:
            ClusterError: it does not run any more, or was connected to by URL.
        """
        self._check_cluster("status")
        if is_jobs_address(self._address):
            return status(address=self._address)[self.name]
        with connected(self._address):
            running_fusion(self.name)
            return status_of(self.name)

    def publish(self, fusion: Mapping[str, Any]) -> None:
        """Make a fusion the live one while requests run: ``ensemble.publish({"weights": {"cnn": 0.7, "rnn": 0.3}})``.

        Args:
            fusion: the fields of a spec's fusion; what it leaves out stays as it is, None takes it away. Where fusions
                have names, ``{"fusions": {name: fields}}``.

        Raises:
            RemoteError: the server refused; the old one still answers.
        """
        self.client.publish(fusion)

    def rollback(self) -> RolledBack:
        """Go back to the revision before the live one.

        Raises:
            ClusterError: there is none.
        """
        self._check_cluster("rollback")
        done = rollback(self.name, address=self._address)
        self.revision = done.revision
        return done

    def down(self) -> Stopped:
        """Take it down. The local cluster stays, also without any ensemble: ``quorate.down()`` stops it."""
        self._check_cluster("down")
        self.close()
        return down(self.name, address=self._address)

    def close(self) -> None:
        """Close this object's connections."""
        self.client.close()

    def __enter__(self) -> Ensemble:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {
            "name": self.name, "revision": self.revision, "http": self.url, "grpc": self.grpc, "members": self.members,
        }  # fmt: skip

    def tables(self) -> Sequence[Table]:
        replicas = ", ".join(f"{name} x{count}" for name, count in self.members.items())
        line = f"{self.name} answers at {', '.join(self.urls)}"
        line += f" (gRPC {self.grpc}), revision {self.revision}" if self.grpc else ""
        return [Table(lines=[f"{line}: {replicas}" if replicas else line, *filter(None, [self.note])])]

    def _check_cluster(self, what: str) -> None:
        if not self.grpc:
            fix = f"connect('{self.name}') or connect('{self.name}', address=...) reaches the cluster"
            raise ClusterError(f"{what} needs the cluster, and {self.name} was connected to by its URL; {fix}")


def connect(
    name: str | None = None,
    *,
    address: str | None = None,
    url: str | Sequence[str] | None = None,
    credentials: Credentials | None = None,
) -> Ensemble:
    """Connect to an ensemble that runs.

    Args:
        name: of the ensemble, or the URL of its HTTP door, which then says the name; the only one that runs when None.
        address: of the Ray cluster; the local one when None.
        url: of its HTTP door instead, or of several, where the cluster itself is out of reach; only what goes over
            HTTP works then, and Ray need not be installed.
        credentials: what its doors want to see.

    Raises:
        ClusterError: there is no such cluster, or no such ensemble on it.
        UnavailableError: nobody answers at a URL that is to say its ensemble's name.
    """
    if name is not None and name.startswith(("http://", "https://")) and url is None:
        name, url = None, name
    if url is not None:
        return Ensemble(name or _name_at(url, credentials), url, credentials=credentials)
    if is_jobs_address(address):
        from quorate.cluster.jobs.call import call_in_job

        found = call_in_job(address, "connect", {"name": name})
        return Ensemble(
            found["name"], found["urls"], grpc=found["grpc"], revision=found["revision"], members=found["members"],
            classes=found["classes"], address=address, credentials=credentials,
        )  # fmt: skip
    with connected(address):
        fusion = running_fusion(name or _only_one())
    first = fusion[0]
    return Ensemble(
        first["spec"]["name"],
        http_urls(fusion),
        grpc=first["grpc"],
        revision=first["revision"],
        members=first["ready"],
        classes=classes_of(first),
        address=address,
        credentials=credentials,
    )


def _name_at(url: str | Sequence[str], credentials: Credentials | None) -> str:
    """Of the ensemble that a door is to."""
    with Client(url, credentials=credentials) as client:
        return client.models()[0]


def _only_one() -> str:
    from quorate.deployments.control.describe import ensembles

    running = ensembles()
    if len(running) != 1:
        known = f"{', '.join(running)} run here; connect with a name" if running else "nothing runs here; deploy first"
        raise ClusterError(known)
    return running[0]
