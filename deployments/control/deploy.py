"""Deploy, roll back and delete an ensemble on the Ray cluster this process is connected to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ray import serve

from quorate.deployments.control import serve_apps
from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.artifacts.holders import Holders
from quorate.deployments.control.artifacts.spreading import Spreading
from quorate.deployments.control.changes import needs_of_apps, plan_changes, plan_inside, recorded_needs
from quorate.deployments.control.describe import describe_fusion, describe_members
from quorate.deployments.control.placement import PlannedApp
from quorate.deployments.control.ports import choose_ports, door_nodes
from quorate.deployments.control.processes.grouping import group_members
from quorate.deployments.control.processes.measuring import known, measurements
from quorate.deployments.control.processes.sharing import with_sharing
from quorate.deployments.control.ray_private import ClusterStore, content_cache, kept_root
from quorate.deployments.control.replicas import Replicas
from quorate.deployments.control.serve_apps import Progress
from quorate.deployments.control.shadows import shadow_of
from quorate.deployments.control.shared_members import claim, release
from quorate.deployments.control.transaction import Change, changing, record_of, recorded_apps, stop
from quorate.deployments.errors import ClusterError, DeployError
from quorate.deployments.records.artifact_store import upload
from quorate.deployments.records.door_failures import DoorFailures
from quorate.deployments.records.kept_files import KeptFiles, keep_files
from quorate.deployments.records.measurements import Measurements
from quorate.deployments.records.memory_needs import file_bytes
from quorate.deployments.records.registry import Publication, Record, Registry
from quorate.deployments.rollout.rollout import Candidate, Check, roll_out
from quorate.deployments.security.doors import Doors, at_port
from quorate.deployments.spec.digests import pin
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_formats import REMOTE, format_of
from quorate.deployments.spec.outside_files import inside
from quorate.deployments.telemetry.settings import Telemetry

_HELD = ", or remove shadows, whose own members hold some"


@dataclass(frozen=True)
class Deployed:
    """A running ensemble: where to ask it, and what runs.

    Attributes:
        http: of one of its doors, likewise ``grpc``.
        nodes: the addresses of the nodes that its doors stand on; all have the same ports.
        members: how many replicas of each run.
        on_cpu: members that ask for GPUs, and run on the CPU because their nodes have none.
        unanswered: of members that other servers run and that have failed already, what they said.
    """

    name: str
    revision: str
    http: str
    grpc: str
    nodes: tuple[str, ...]
    members: dict[str, int]
    on_cpu: tuple[str, ...] = ()
    unanswered: Mapping[str, str] = field(default_factory=dict)


def deploy(
    spec: EnsembleSpec,
    folder: Path,
    doors: Doors | None = None,
    http_port: int = 0,
    grpc_port: int = 0,
    timeout_s: float = 300.0,
    progress: Progress | None = None,
    check: Check | None = None,
    store: str = "",
    telemetry: Callable[[Telemetry], Telemetry] | None = None,
) -> Deployed:
    """Deploy or update an ensemble; only what changed restarts.

    What changed starts beside what runs, where there is room for both, and all requests change over at once. Where it
    does not come up, it is taken away again and the old revision goes on.

    Args:
        spec: the ensemble.
        folder: what the spec's relative paths start from here; nodes get copies of what it names, of their own.
        doors: where they stand and whom they admit; None leaves those of the running ensemble as they are, and opens
            a new one's on loopback.
        http_port: 0 keeps the ensemble's port, or takes a free one for a new one.
        grpc_port: likewise.
        timeout_s: how long members may take to load.
        progress: called with each part's state whenever one changes, and every few seconds.
        check: looks at the new revision before it goes live; what it raises keeps the old one.
        store: a URI of pyarrow's file systems, such as ``s3://bucket/models``, that keeps what the spec names too; that
            of the running ensemble where it is empty.
        telemetry: changes what is traced and how logs are written, at once and whatever becomes of the revision.

    Raises:
        DeployError: something could not be started; the text says what.
        ConflictError: somebody else is changing the ensemble.
        UnavailableError: the cluster's head does not answer.
    """
    with inside(spec, folder) as (named, place):
        pinned = pin(named, place)
        _start_serve()
        with changing(spec.name, "a deployment") as change:
            files = keep_files(pinned, place, kept_root(), store or _store(change), content_cache())
            upload(files, kept_root() / files.name)
            Holders(ClusterStore()).add(files.name)
            if telemetry is not None:  # before anything starts, so that it writes its first line in the right way
                change.registry.change_telemetry(spec.name, telemetry)
            before = change.record.live.measured if change.record is not None else Measurements()
            measured = measurements(pinned, files, before, timeout_s)
            publication = _published(pinned, folder.resolve(), files, measured)
            record = _planned(change, publication, doors, (http_port, grpc_port))
            _go_live(change, record, timeout_s, progress, check)
            return _deployed(record)


def rollback(name: str, timeout_s: float = 300.0) -> EnsembleSpec:
    """Make the revision before the live one live again. That one is dropped: a second rollback goes back further.

    Raises:
        ClusterError: there is none.
        DeployError: its members could not be started again, or a replica refused it.
        ConflictError: somebody else is changing the ensemble.
    """
    with changing(name, "a rollback") as change:
        old = change.record
        if old is None or not old.earlier:
            raise ClusterError(f"'{name}' has no earlier revision to go back to; deploy the spec you want instead")
        earlier = old.earlier[-1]
        record = old.following(_again(earlier), dropping=old.live.spec.revision)
        _go_live(change, _with_same_doors(record, old), timeout_s)
        return earlier.spec


def promote_shadow(name: str, revision: str, timeout_s: float = 300.0, check: Check | None = None) -> str:
    """Make a shadow the live revision, while requests run; ``rollback`` goes back. It is a shadow no more.

    Args:
        revision: its name, or how that begins.
        check: looks at it before it goes live; what it raises keeps the old one.

    Returns:
        Its name.

    Raises:
        ClusterError: no such ensemble runs.
        ShadowError: it has no such shadow.
        DeployError: a replica refused it, or its members could not be started; the old one still answers.
        ConflictError: somebody else is changing the ensemble.
    """
    with changing(name, "a promotion") as change:
        old = record_of(change.record, name)
        shadow = shadow_of(old, revision)
        record = _with_same_doors(old.following(_again(shadow)), old)
        _go_live(change, record, timeout_s, check=check)
        return shadow.spec.revision


def change_doors(name: str, doors: Doors, timeout_s: float = 300.0) -> None:
    """Admit others at the doors that there are; what is live stays as it is.

    Args:
        timeout_s: how long doors may take that have to start anew, because of another certificate.

    Raises:
        ClusterError: there is no such ensemble.
        DeployError: no node can hold a door, or one could not be started.
        ConflictError: somebody else is changing it.
    """
    with changing(name, "a change of its doors") as change:
        old = record_of(change.record, name)
        record = replace(old, number=change.number, doors=doors)
        there = [node for node in door_nodes(old.live.spec.serving.resources) if node in old.door_apps]
        _go_live(change, _with_doors(record, old, there), timeout_s)


def delete(name: str) -> None:
    """Take an ensemble down: first the doors, then the members.

    Raises:
        ClusterError: there is no such ensemble.
        ConflictError: somebody else is changing it.
    """
    with changing(name, "being taken down") as change:
        record = record_of(change.record, name)
        stop(record.door_apps.values())
        change.commit_down(name)
        change.registry.forget_telemetry(name)
        change.registry.forget_online(name)
        DoorFailures(ClusterStore(), name).forget_all()
        stop(record.member_apps)


def plan(spec: EnsembleSpec, folder: Path, doors: Doors | None = None) -> list[PlannedApp]:
    """What ``deploy`` would start, stop and leave as it is.

    Raises:
        DeployError: no node can hold the doors.
    """
    with inside(spec, folder) as (named, place):
        spec = pin(named, place)
        sizes = {name: file_bytes(name, member, place) for name, member in spec.members.items()}
    old = Registry(ClusterStore()).latest(spec.name)
    opened = doors or (old.doors if old else Doors())
    ports = (0, 0) if old is None else (old.http_port, old.grpc_port)
    measured = Measurements() if old is None else known(spec, old.live.measured)
    publication = _published(spec, folder.resolve(), KeptFiles(Path()), measured)
    needs = needs_of_apps(publication.spec, publication.members_by_app, sizes)
    found = plan_changes(old, recorded_apps(_next_record(old, 1, publication, opened, ports)), needs)
    return with_sharing([*plan_inside(old, publication), *found], publication)


def _start_serve() -> None:
    """Have Serve run, without proxies.

    Raises:
        UnavailableError: the cluster's head does not answer.
    """
    ClusterStore().keys("record/")  # where the head is away, Serve would wait for it until Ray ends this process
    serve.start(proxy_location="Disabled")


def _planned(change: Change, publication: Publication, doors: Doors | None, ports: tuple[int, int]) -> Record:
    """The record that will be true when the change has succeeded; its ports are free."""
    old, spec = change.record, publication.spec
    opened = doors or (old.doors if old else Doors())
    chosen = choose_ports(spec.name, opened.host, ports, door_nodes(spec.serving.resources), change.registry)
    return _next_record(old, change.number, publication, opened, chosen)


def _next_record(
    old: Record | None, number: int, publication: Publication, doors: Doors, ports: tuple[int, int]
) -> Record:
    if old is None:
        record = Record(number, publication, doors, ports[0], ports[1], {})
    else:
        record = replace(old.following(publication), doors=doors, http_port=ports[0], grpc_port=ports[1])
    return _with_doors(record, old, door_nodes(publication.spec.serving.resources))


def _with_doors(record: Record, old: Record | None, nodes: list[str]) -> Record:
    """With doors on nodes that are there. One that is away keeps its own for when it is back, if they are right."""
    door_apps = _door_apps(record, nodes)
    away = {} if old is None else {n: app for n, app in old.door_apps.items() if n not in door_apps}
    kept = {n: app for n, app in away.items() if app == _door_apps(record, [n])[n]}
    return replace(record, door_apps={**kept, **door_apps})


def _go_live(
    change: Change, record: Record, timeout_s: float, progress: Progress | None = None, check: Check | None = None
) -> None:
    """Start what is new, have every fusion replica prepare the revision, record it, and open the new doors."""
    old, apps = change.record, recorded_apps(record)
    there = set(door_nodes(record.live.spec.serving.resources))
    planned = plan_changes(old, apps, recorded_needs(record.live))
    for found in planned:
        if found.problem:
            shadows = "" if old is None or not any(one.own for one in old.shadows) else _HELD
            raise DeployError(f"no place for {found.part}: {found.problem}; change its resources or add nodes{shadows}")
    change.lease.check()
    if old is not None:
        making_room = {app for found in planned for app in found.replaces}
        stop(making_room)
        release(record.live.spec.name, {*old.apps, *record.apps} - making_room)
    claim(record)
    spreading = Spreading(record.live.files)
    serve_apps.start([app for app in apps if not app.node or app.node in there], timeout_s, progress)
    spreading.wait(timeout_s)
    if old is not None and replace(old, number=record.number, earlier=record.earlier) == record:
        return  # all of it is live already
    if old is not None and old.live.spec.revision == record.live.spec.revision:
        check = None
    candidate = Candidate(record.live, Replicas(record.door_apps.values()), bring(record.live.files.of("")))
    roll_out(candidate, lambda: change.commit(record), check)


def _store(change: Change) -> str:
    """That of what runs."""
    return "" if change.record is None else change.record.live.files.store


def _published(spec: EnsembleSpec, folder: Path, files: KeptFiles, measured: Measurements) -> Publication:
    apps: dict[str, str] = {}
    for group in group_members(spec, measured):
        if group.inside:
            app = serve_apps.inside_application(spec, group.members)
        else:
            app = serve_apps.group_application(spec, group.members, folder, files).name
        apps |= dict.fromkeys(group.members, app)
    return Publication(spec, folder, files, {name: apps[name] for name in spec.members}, measured)


def _again(publication: Publication) -> Publication:
    """One that was recorded, to go live as things are now."""
    return _published(publication.spec, publication.folder, publication.files, publication.measured)


def _with_same_doors(record: Record, old: Record) -> Record:
    return replace(record, door_apps=_door_apps(record, list(old.door_apps)))


def _door_apps(record: Record, nodes: list[str]) -> Mapping[str, str]:
    return {
        node: serve_apps.door_application(record.live, record.doors, record.http_port, record.grpc_port, node).name
        for node in nodes
    }


def _deployed(record: Record) -> Deployed:
    spec, doors = record.live.spec, record.doors
    http, grpc = at_port(doors.host, record.http_port), at_port(doors.host, record.grpc_port)
    for replica in describe_fusion(spec.name)[:1]:  # says the address that others reach, where the host stands for all
        http, grpc = replica["http"], replica["grpc"]
    url = f"{'https' if doors.tls else 'http'}://{http}"
    running = Replicas({*record.live.serve_apps, *record.door_apps.values()}).counts()
    doors_up = sum(running[app] for app in record.door_apps.values())  # each runs what is inside
    counts = {name: running.get(app, doors_up) for name, app in record.live.apps.items()}
    wanting = {name for name, member in spec.members.items() if member.resources.num_gpus}
    elsewhere = {name for name, member in spec.members.items() if format_of(member.model) is REMOTE}
    found = describe_members(spec.name) if wanting or elsewhere else {}
    on_cpu = tuple(name for name in sorted(wanting) if any(one["device"] == "cpu" for one in found.get(name, ())))
    failed = {name: one["last_error"] for name in sorted(elsewhere) for one in found.get(name, ()) if one["failures"]}
    return Deployed(spec.name, spec.revision, url, grpc, tuple(record.door_apps), counts, on_cpu, failed)
