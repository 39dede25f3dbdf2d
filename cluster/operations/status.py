"""What runs on a cluster: each ensemble, its revision and doors, each member's replicas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from quorate.cluster.local.connection import connected, is_jobs_address, nothing_runs
from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import ClusterError
from quorate.deployments.spec.ensemble import EnsembleSpec

_COLUMNS = ("member", "ready", "replica", "device", "GPU", "queued rows", "busy s")


@dataclass(frozen=True, repr=False)
class EnsembleStatus(Displayed):
    """One ensemble that runs.

    Attributes:
        http, grpc: host:port of each fusion replica's doors; none while it starts.
        tls, token: what the doors ask of clients.
        ready: by member, how many replicas the fusion reaches.
        members: what each of a member's replicas says of itself.
        versions: of Quorate that its replicas run, ascending; several during an upgrade.
        not_started: why replicas do not start now, by what they are of: a member, or the doors on a node.
        online: what weights that learn have come to, see ``read_report``: how it stands now, or all that was before,
            where that was asked for; empty where nothing learns.
        relabelled: what classes are answered as, by fusion, where that is not what members call them.
    """

    name: str
    revision: str
    http: tuple[str, ...]
    grpc: tuple[str, ...]
    tls: bool
    token: bool
    ready: Mapping[str, int]
    members: Mapping[str, Sequence[Mapping[str, Any]]]
    versions: tuple[str, ...] = ()
    not_started: Mapping[str, str] = field(default_factory=dict)
    online: Mapping[str, Any] = field(default_factory=dict)
    relabelled: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it answers HTTP.

        Raises:
            ClusterError: no door is open.
        """
        if not self.http:
            raise ClusterError(f"'{self.name}' has no open door; see quorate status, and deploy it again")
        return _url(self.tls, self.http[0])

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        doors = ", ".join(_url(self.tls, place) for place in self.http) or "no door"
        title = f"{self.name}  revision {self.revision}  {doors}{' by token' if self.token else ''}"
        rows = [
            (member, str(self.ready.get(member, 0)), *_replica(replica))
            for member, replicas in self.members.items()
            for replica in replicas or [{}]
        ]
        if not self.online:
            return [Table(_COLUMNS, rows, title, [*self._upgrade(), *self._failures(), *self._answered()])]
        from quorate.deployments.learning.online import report

        said = [*self._upgrade(), *self._failures(), *report.lines(self.online)]
        whole = any("standings" in one for one in self.online.get("outputs", ()))
        return [Table(_COLUMNS, rows, title, said), *(report.tables(self.online) if whole else ())]

    def _upgrade(self) -> Iterator[str]:
        if len(self.versions) > 1:
            yield f"runs Quorate {' and '.join(self.versions)}: an upgrade is under way, see docs/upgrading.md"

    def _answered(self) -> Iterator[str]:
        if self.relabelled:
            from quorate.deployments.learning.online.relabelling.report import said_of

            for name, relabel in self.relabelled.items():
                yield f"{name}: {said_of(relabel)}, as relabel in the spec says"

    def _failures(self) -> Iterator[str]:
        for member, replicas in self.members.items():
            for replica in replicas:
                if replica["last_error"]:
                    said = f"{replica['failures']} passes failed, the last with {replica['last_error']}"
                    yield f"{member} {replica['replica']}: {said}; quorate logs {self.name} {member}"
        for part, why in self.not_started.items():
            yield f"{part} does not start: {why}"


@dataclass(frozen=True, repr=False)
class Status(Displayed):
    """All ensembles that run; iterate, or look one up by its name."""

    ensembles: tuple[EnsembleStatus, ...] = ()

    def __iter__(self) -> Iterator[EnsembleStatus]:
        return iter(self.ensembles)

    def __len__(self) -> int:
        return len(self.ensembles)

    def __getitem__(self, name: str) -> EnsembleStatus:
        for ensemble in self.ensembles:
            if ensemble.name == name:
                return ensemble
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        if not self.ensembles:
            return [Table(lines=["nothing runs; quorate deploy SPEC starts an ensemble"])]
        return [table for ensemble in self.ensembles for table in ensemble.tables()]


def status(*, online: bool = False, address: str | None = None) -> Status:
    """Look at every ensemble of a cluster.

    Args:
        online: tell all of what weights that learn have come to: regret and weights through time, what went live.
        address: of the Ray cluster; the local one when None. Where that does not run, nothing does.

    Raises:
        ClusterError: there is no such cluster.
    """
    if is_jobs_address(address):
        from quorate.cluster.jobs.call import call_in_job

        found = call_in_job(address, "status", {"online": online})["ensembles"]
        return Status(
            tuple(EnsembleStatus(**(one | {"http": (*one["http"],), "grpc": (*one["grpc"],)})) for one in found)
        )
    if nothing_runs(address):
        return Status()
    with connected(address):
        from quorate.deployments.control.describe import ensembles

        return Status(tuple(status_of(name, online) for name in ensembles()))


def status_of(name: str, online: bool = False) -> EnsembleStatus:
    """One ensemble of the connected cluster; see ``status``."""
    from quorate.deployments.control.describe import describe_fusion, describe_members, describe_online
    from quorate.deployments.control.serve_apps import not_started

    fusion = describe_fusion(name)
    first: Mapping[str, Any] = fusion[0] if fusion else {}
    members = describe_members(name)
    learned = describe_online(name, whole=online)
    replicas = [*fusion, *(replica for found in members.values() for replica in found)]
    return EnsembleStatus(
        name=name,
        revision=first.get("revision", ""),
        http=tuple(replica["http"] for replica in fusion),
        grpc=tuple(replica["grpc"] for replica in fusion),
        tls=first.get("tls", False),
        token=first.get("token", False),
        ready=first.get("ready", {}),
        members=members,
        versions=tuple(sorted({replica.get("quorate", "an older version") for replica in replicas})),
        not_started=not_started(name),
        online=learned,
        relabelled=_relabelled(first.get("spec", {})),
    )


def _relabelled(spec: Mapping[str, Any]) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """By fusion, of a spec as a door says it."""
    fusions = {"fused": spec["fusion"]} if spec.get("fusion") else spec.get("fusions", {})
    return {name: one["relabel"] for name, one in fusions.items() if one.get("relabel")}


def running_fusion(name: str) -> Sequence[Mapping[str, Any]]:
    """What each fusion replica of an ensemble on the connected cluster says of itself, one at least.

    Raises:
        ClusterError: no such ensemble runs, or none of its doors is open.
    """
    from quorate.deployments.control.describe import describe_fusion, ensembles

    found = describe_fusion(name)
    if found:
        return found
    known = ensembles()
    if name in known:
        raise ClusterError(f"'{name}' is deployed but no fusion replica of it answers; deploy it again")
    raise ClusterError(f"no ensemble '{name}' runs here (running: {', '.join(known) or 'none'}); deploy it first")


def http_urls(fusion: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Where the fusion replicas that said this answer HTTP; on loopback all say the same."""
    return tuple(dict.fromkeys(_url(replica["tls"], replica["http"]) for replica in fusion))


def _url(tls: bool, place: str) -> str:
    return f"{'https' if tls else 'http'}://{place}"


def classes_of(fusion: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names of what the fusion replica serves; none where it has none."""
    return EnsembleSpec.model_validate(fusion["spec"]).classes or ()


def _replica(replica: Mapping[str, Any]) -> tuple[str, ...]:
    if not replica:
        return "none answers", "", "", "", ""
    gpus = "" if replica["device"] == "cpu" else ",".join(replica["gpu_ids"])  # of a node without any they are logical
    return replica["replica"], replica["device"], gpus, str(replica["queued_rows"]), f"{replica['busy_s']:.2f}"
