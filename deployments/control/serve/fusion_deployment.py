"""The fusion as a Ray Serve deployment: Serve places, checks and scales it, and calls what a rollout needs."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import threading
import time
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from quorate.deployments.control.artifacts.bringing import bring
from quorate.deployments.control.artifacts.spreading import keep_copies
from quorate.deployments.control.online.labels_elsewhere import give_elsewhere
from quorate.deployments.control.publish import publish
from quorate.deployments.control.ray_private import ClusterStore, bind_serve_to_node, end_process_later
from quorate.deployments.control.serve.loading_inside import load_inside
from quorate.deployments.control.serve.moving_doors import LOOK_S, NodeWatch, follow_nodes
from quorate.deployments.control.serve.repeating import repeat
from quorate.deployments.logs.files import SHARED, LogFile
from quorate.deployments.logs.handler import DOORS, keep_own
from quorate.deployments.logs.lives import tell_ended
from quorate.deployments.members.inside.deaths import DEATHS_TO_KEEP_OUT
from quorate.deployments.records.registry import Publication, Record, Registry, is_inside
from quorate.deployments.routing.replica import Address
from quorate.deployments.security.access import Doorkeeper, Level
from quorate.deployments.security.certificates import Certificates, Tls
from quorate.deployments.security.doors import WILDCARDS, Doors, at_port, is_loopback, outward_address
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.telemetry.settings import LogSettings, Telemetry
from quorate.fusion.errors import QuorateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quorate.deployments.engine.engine import Engine
    from quorate.deployments.learning.feedback import Verdict
    from quorate.deployments.members.inside.inside_members import InsideMembers
    from quorate.deployments.members.inside.inside_thread import InsideThread
    from quorate.deployments.server.fusion_server import Served
    from quorate.deployments.wire.feedback import GivenLabel

_log = logging.getLogger(__name__)
# Of the code that runs, whatever is installed since.
_VERSION = version("quorate")

# A loop that has not ticked for this long serves nobody.
STALL_S = 10.0
# How long a replica that was not told of a change may go on as before.
WATCH_S = 2.0
# Of a member that this process does not run, see ``InsideMembers``.
_KEPT_OUT = {
    "device": "", "memory": {}, "busy_s": 0.0, "failures": DEATHS_TO_KEEP_OUT,
    "last_error": f"it ended the process {DEATHS_TO_KEEP_OUT} times",
}  # fmt: skip
# How often it is looked whether enough nodes have the files of what may go live.
COPIES_S = 30.0
# Of how many such looks one is also for files that no node has all of.
SEARCH_EVERY = 20


class FusionDeployment:
    """One replica: both doors to the ensemble on one node.

    What it serves is the registry's live publication if that is of its wiring, else the one it was deployed with. Its
    doors open when the registry names its application, and not before. ``fingerprint`` names what it was deployed with.
    """

    def __init__(
        self, ensemble: str, wiring: str, host: str, http_port: int, grpc_port: int, tls: Tls | None,
        publication: str, doors: Doors, fingerprint: str,
    ):  # fmt: skip
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        bind_serve_to_node()
        import ray
        from ray import serve

        from quorate.deployments.server.fusion_server import FusionServer, ServerSettings

        self._ensemble, self._fingerprint, self._host = ensemble, fingerprint, host
        context = serve.get_replica_context()
        self._app = context.app_name
        self._node = ray.util.get_node_ip_address()
        log = LogFile(ensemble, DOORS, str(context.replica_id.unique_id), self._node)
        keep_own(log)
        self._registry = Registry(ClusterStore())
        self._replica_id = str(context.replica_id.unique_id)
        self._last_inside = (time.monotonic(), 0.0)
        self._online = b""
        self._number, self._record = 0, self._registry.latest(ensemble)
        record = self._record
        ours = record is not None and self._app in record.door_apps.values()
        self._keeper = Doorkeeper(record.doors if record is not None and ours else doors, host)
        self._certificates = None if tls is None else Certificates(tls)
        self._handles: dict[str, Any] = {}  # by application of a member
        settings = ServerSettings(host, http_port, grpc_port, self._keeper, self._certificates)
        self._inside: dict[str, InsideMembers] = {}  # by application
        make_engine = partial(_make_engine, inside=self._inside_thread)
        self._server = FusionServer(settings, make_engine, self._find_member, self._publish, self._configure)
        fits = record is not None and record.live.spec.wiring == wiring
        first = record.live if record is not None and fits else Publication.from_json(json.loads(publication))
        self._load_inside(first)
        self._server.start(_served(first), opening=ours)
        self._server.engine.metrics.state.door = at_port(_reachable(host), self._server.http_port), str(os.getpid())
        self._tell_doors(record if ours else None)
        self._server.learning.others = self._give_elsewhere
        self._telemetry, self._server.engine.telemetry.on_logs = Telemetry(), log.use
        self._adopt_telemetry()
        self._adopting = threading.Lock()
        self._node_watch, self._turns = NodeWatch(), itertools.count(1)
        self._copy_turns = itertools.count(1)
        self._ends = (
            repeat("registry", WATCH_S, self._follow_record, f"what is recorded of {ensemble} cannot be used"),
            repeat("copies", COPIES_S, self._keep_copies, f"copies of the files of {ensemble} cannot be kept"),
            repeat("nodes", LOOK_S, self._follow_nodes, f"the doors of {ensemble} stay where they are"),
        )

    def prepare(self, publication: dict[str, Any]) -> str:
        """First step of publishing: build the revision and find its members; an error here changes nothing."""
        return self._prepare(Publication.from_json(publication))

    def discard(self, revision: str) -> None:
        """Instead of the second step: forget it."""
        self._server.with_revisions(lambda revisions: revisions.discard(revision))

    def probe(self, revision: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """What a prepared revision answers, (B, C) by output; requests go on with the live one."""
        return self._server.probe(revision, inputs)

    def start_canary(self, revision: str, share: float) -> None:
        """Give a prepared revision a share of the requests."""
        self._server.with_revisions(lambda revisions: revisions.start_canary(revision, share))

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """How requests of the live revision and of the canary went."""
        return self._server.with_revisions(lambda revisions: revisions.outcomes())

    def shadows(self) -> dict[str, Any]:
        """How shadow fusions compare with the live one here."""
        return self._server.with_shadows(lambda shadows: shadows.report())

    def take_labels(self, labels: Sequence[GivenLabel]) -> list[Verdict]:
        """What becomes of labels that were given at another door, for answers that may be recorded here."""
        return self._server.call(self._server.learning.judge(labels))

    def drift(self) -> dict[str, Any]:
        """What has drifted here."""
        return self._server.drift()

    def adopt(self) -> None:
        """Second step: do what the registry says now. Answer with its live revision, admit whom it admits."""
        with self._adopting:
            if not self._registry.follows(self._ensemble, self._number):
                return
            number = self._registry.number(self._ensemble)
            self._record = record = self._registry.latest(self._ensemble)
            if record is not None and self._app in record.door_apps.values():
                self._keeper.change(record.doors)
                self._tell_doors(record)
                self._use(record.live)
                self._server.open_doors()
                self._shadow(record.shadows)
            self._number = self._server.engine.metrics.state.record_number = number

    def describe(self) -> dict[str, Any]:
        """For ``quorate status``."""
        import ray

        engine, host = self._server.engine, _reachable(self._host)
        return {
            "pid": os.getpid(),
            "quorate": _VERSION,
            "node": ray.get_runtime_context().get_node_id(),
            "revision": engine.revision.name,
            "fingerprint": self._fingerprint,
            "spec": engine.revision.spec.model_dump(mode="json"),
            "ready": engine.ready(),
            "inside": {
                member.job.name: {"busy_s": inside.thread.busy_s, **member.describe()}
                for inside in list(self._inside.values())
                for member in inside.members
            }
            | {name: _KEPT_OUT for inside in list(self._inside.values()) for name in inside.kept_out},
            "queued_rows": engine.queued_rows,
            "http": at_port(host, self._server.http_port),
            "grpc": at_port(host, self._server.grpc_port),
            "tls": self._certificates is not None,
            "token": self._keeper.free < Level.ASK,
        }

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What ``autoscaling`` reads."""
        now, busy_s = time.monotonic(), sum(inside.thread.beside_s for inside in list(self._inside.values()))
        (then, before_s), self._last_inside = self._last_inside, (now, busy_s)
        inside_share = max(busy_s - before_s, 0.0) / max(now - then, 1e-9)
        return {"busy_share": min(self._server.busy_share() + inside_share, 1.0)}

    def check_health(self) -> None:
        """Serve replaces the replica when this raises. Nothing that it would have to ask of others is looked at."""
        stalled_s = self._server.stalled_s()
        if stalled_s > STALL_S:
            raise RuntimeError(f"the fusion's event loop has not run for {stalled_s:.0f} s")
        for inside in list(self._inside.values()):
            inside.check_health()

    def __del__(self) -> None:
        # Serve calls this when it stops the replica.
        if hasattr(self, "_server"):
            for end in getattr(self, "_ends", ()):
                end()
            self._server.stop()
            end_process_later()

    def _follow_record(self) -> None:
        """Take up what passed this replica by, because it was just starting or out of reach."""
        self.adopt()
        self._adopt_telemetry()
        self._look_at_learning()
        tell_ended(self._ensemble, self._node, self._telemetry.logs)
        tell_ended(SHARED, self._node, LogSettings())

    def _keep_copies(self) -> None:
        """Have enough nodes have the files of what may go live; a transfer may take minutes."""
        record, anyway = self._record, next(self._copy_turns) % SEARCH_EVERY == 0
        if record is not None:
            for publication in record.publications:
                keep_copies(publication.files, anyway=anyway)

    def _follow_nodes(self) -> None:
        """Have doors where nodes are. The first door looks each time, the others the less often the later they come."""
        record, turn = self._record, next(self._turns)
        nodes = [] if record is None else sorted(record.door_apps)
        every = 1 + nodes.index(self._node) if self._node in nodes else 0
        if record is None or not every or turn % every:
            return
        # Where the head is away the store says so at once, and Ray waits for it.
        if not self._registry.follows(self._ensemble, self._number):
            follow_nodes(self._node_watch, record, every * LOOK_S)

    def _adopt_telemetry(self) -> None:
        """Trace and log as is recorded."""
        found = self._registry.telemetry(self._ensemble)
        if found != self._telemetry:
            self._server.call(self._server.engine.telemetry.adopt(found))
            self._telemetry = found

    def _give_elsewhere(self, labels: Sequence[GivenLabel]) -> Sequence[Verdict] | None:
        """Let doors of other nodes, whose folders are their own, have labels; on a thread that only these wait for."""
        record, kept = self._record, self._server.engine.revision.spec.record
        if record is None or kept is None or kept.shared:
            return None
        apps = [app for node, app in sorted(record.door_apps.items()) if node != self._node]
        return give_elsewhere(apps, labels) if apps else None

    def _look_at_learning(self) -> None:
        """Have metrics and the page say what weights that learn have come to."""
        from quorate.deployments.learning.online.report import at_doors, read_report

        learns = self._server.engine.revision.spec.online.mode != "off"
        stored = self._registry.online(self._ensemble) if learns else b""
        if stored != self._online:
            self._server.engine.metrics.state.online = at_doors(read_report(stored))
            self._online = stored

    async def _configure(self, change: Callable[[Telemetry], Telemetry]) -> Telemetry:
        """Record what arrived at a door; the other doors take it up."""
        self._telemetry = await asyncio.to_thread(self._registry.change_telemetry, self._ensemble, change)
        return self._telemetry

    def _tell_doors(self, record: Record | None) -> None:
        """Have clients told where all doors stand, or where this one does while none is recorded."""
        from quorate.deployments.server.service import DoorAddresses

        hosts: tuple[str, ...] = (_reachable(self._host),)
        if record is not None:
            everywhere = record.doors.host in WILDCARDS
            hosts = tuple(_outward(host) if everywhere else host for host in record.door_hosts)
        http, grpc = (
            tuple(at_port(host, port) for host in hosts) for port in (self._server.http_port, self._server.grpc_port)
        )
        self._server.doors = DoorAddresses(http, grpc)

    def _use(self, publication: Publication) -> None:
        name = publication.spec.revision
        known = self._server.with_revisions(lambda revisions: revisions.knows(name, publication.apps))
        if not known:
            self._prepare(publication)
        self._server.with_revisions(lambda revisions: revisions.commit(name))

    def _shadow(self, publications: Sequence[Publication]) -> None:
        """Compute these beside what is live; one that cannot be built is said to be so, and harms nothing."""
        from quorate.deployments.control.built_revision import built
        from quorate.deployments.learning.shadows.asking import Asks

        known = self._server.with_shadows(lambda shadows: shadows.revisions())
        ready, failed = [], {}
        for one in publications:
            name = one.spec.revision
            try:
                ready.append(known.get(name) or built(one))
            except QuorateError as error:
                failed[name] = str(error)
                _log.warning("shadow %s of %s is not computed: %s", name, self._ensemble, error)
        asks = {one.spec.revision: Asks(one.share, one.own_apps) for one in publications if one.own}
        self._server.use_shadows(ready, failed, asks)

    async def _publish(self, revise: Callable[[EnsembleSpec], EnsembleSpec]) -> None:
        """Make what arrived at a door live on all replicas, this one among them."""
        from quorate.deployments.engine.revision import build_revision

        def revised(record: Record) -> EnsembleSpec:
            spec = revise(record.live.spec)
            # What cannot be built is the client's mistake, not the cluster's.
            build_revision(spec, bring(record.live.files.of("")))
            return spec

        await asyncio.to_thread(publish, self._ensemble, revised)

    def _find_member(self, app: str, on_replicas: Callable[[dict[str, Address]], None]) -> Callable[[], None]:
        if is_inside(app):
            address = Address.announced(self._inside[app].address)
            on_replicas({address.replica_id: address} if address.members else {})
            return partial(self._forget_inside, app)
        from ray.serve.handle import DeploymentHandle

        from quorate.deployments.control.serve.directory import listen

        listen(app, on_replicas)
        if app not in self._handles:
            member = app.split(".")[1]  # also the deployment's name
            # Not serve.get_deployment_handle: it would give a handle that has been shut down a second time.
            handle: Any = DeploymentHandle(member, app)
            self._handles[app] = handle.options()  # connects the handle, and with it the directory
        return partial(self._forget_member, app)

    def _prepare(self, publication: Publication) -> str:
        new = self._load_inside(publication)
        try:
            return self._server.prepare(_served(publication))
        except BaseException:
            for app in new:
                self._inside.pop(app).stop()
            raise

    def _load_inside(self, publication: Publication) -> list[str]:
        """Have the members in this process that a publication wants here; returns the applications that were not."""
        new = [app for app in publication.members_by_app if is_inside(app) and app not in self._inside]
        for app in new:
            self._inside[app] = load_inside(publication, app, publication.members_by_app[app], self._replica_id)
        return new

    def _inside_thread(self, app: str) -> InsideThread | None:
        found = self._inside.get(app)
        return None if found is None else found.thread

    def _forget_inside(self, app: str) -> None:
        """Called on the server's event loop: no revision asks these members any more."""
        asyncio.get_running_loop().run_in_executor(None, self._inside.pop(app).stop)

    def _forget_member(self, app: str) -> None:
        """Called on the server's event loop: what holds a handle's router and its long poll is let go."""
        from quorate.deployments.control.serve.directory import forget

        forget(app)
        asyncio.get_running_loop().run_in_executor(None, self._handles.pop(app).shutdown)


def _served(publication: Publication) -> Served:
    from quorate.deployments.server.fusion_server import Served

    return Served(publication.spec, bring(publication.files.of("")), publication.apps)


def _make_engine(served: Served, inside: Callable[[str], InsideThread | None]) -> Engine:
    import ray

    from quorate.deployments.engine.engine import Engine

    tls = Registry(ClusterStore()).cluster_keys().for_client()
    node_id = ray.get_runtime_context().get_node_id()
    return Engine(served.spec, served.folder, node_id, tls, served.apps, inside)


def _reachable(host: str) -> str:
    """The address by which others reach what is bound to ``host``."""
    import ray

    return _outward(ray.util.get_node_ip_address()) if host in WILDCARDS else host


def _outward(node: str) -> str:
    """A node's address; where it is loopback, as of the local cluster, what other machines say instead."""
    return outward_address() if is_loopback(node) else node
