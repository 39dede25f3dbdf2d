"""The fusion as a Ray Serve deployment: a thread with its own event loop runs the engine and the doors."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from quorate.deployments.control import door_records
from quorate.deployments.control.registry import Publication, history, live, stored
from quorate.deployments.errors import CredentialError, DeployError
from quorate.deployments.security.access import Doorkeeper, Level
from quorate.deployments.security.certificates import Certificates, Tls
from quorate.deployments.security.doors import at_port
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.errors import QuorateError

if TYPE_CHECKING:
    import uvicorn

    from quorate.deployments.engine.engine import Engine
    from quorate.deployments.engine.revision_set import Lanes

T = TypeVar("T")
_log = logging.getLogger(__name__)

RECONCILE_S = 0.5
START_TIMEOUT_S = 60.0
# A loop that has not ticked for this long serves nobody.
STALL_S = 10.0
# How long calls under way may still take when the replica stops.
GRPC_GRACE_S = 3.0


class FusionReplica:
    """Both doors to the ensemble. All replicas of a node listen on the same two ports (SO_REUSEPORT).

    What it serves is the newest published spec of its wiring; ``fingerprint`` names what it was deployed with.
    """

    def __init__(
        self, ensemble: str, wiring: str, host: str, http_port: int, grpc_port: int, tls: Tls | None, fingerprint: str
    ):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._ensemble, self._fingerprint = ensemble, fingerprint
        self._keeper = Doorkeeper(door_records.recorded(ensemble), host)
        self._certificates = None if tls is None else Certificates(tls)
        self._host, self._http_port, self._grpc_port = host, http_port, grpc_port
        self._engine: Engine | None = None
        self._server: uvicorn.Server | None = None
        self._ticked = time.monotonic()
        self._busy = self._last_stats = (time.monotonic(), 0.0)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._handles: dict[str, Any] = {}  # by application of a member
        self._seen = b""  # the history of publications when it was last looked at
        self._start(live(ensemble, wiring))

    def prepare(self, words: dict[str, Any]) -> str:
        """First step of publishing: build the revision and find its members; an error here changes nothing."""
        return self._on_loop(self._prepare(Publication.of(words)))

    def discard(self, revision: str) -> None:
        """Instead of the second step: forget it."""
        self._with_lanes(lambda lanes: lanes.discard(revision))

    def probe(self, revision: str, inputs: dict[str, Any]) -> Any:
        """What a prepared revision answers, (B, C); requests go on with the live one."""
        return self._on_loop(self._probe(revision, inputs))

    def start_canary(self, revision: str, share: float) -> None:
        """Give a prepared revision a share of the requests."""
        self._with_lanes(lambda lanes: lanes.start_canary(revision, share))

    def watched(self) -> dict[str, dict[str, Any]]:
        """How requests of the live revision and of the canary went."""
        return self._with_lanes(lambda lanes: lanes.watched())

    def commit(self, revision: str) -> None:
        """Second step: use it from the next batch on."""
        self._with_lanes(lambda lanes: lanes.commit(revision))

    def admit(self) -> bool:
        """Read again whose tokens open the doors."""
        self._keeper.change(door_records.recorded(self._ensemble))
        return True

    def describe(self) -> dict[str, Any]:
        """For ``quorate status``."""
        assert self._engine is not None
        return {
            "pid": os.getpid(),
            "revision": self._engine.revision.name,
            "fingerprint": self._fingerprint,
            "spec": self._engine.revision.spec.model_dump(mode="json"),
            "ready": self._engine.ready(),
            "queued_rows": self._engine.queued_rows,
            "http": at_port(_reachable(self._host), self._http_port),
            "grpc": at_port(_reachable(self._host), self._grpc_port),
            "tls": self._certificates is not None,
            "token": self._keeper.free < Level.ASK,
        }

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Share of the time since the last call that the event loop's thread was computing."""
        (then, before_s), self._last_stats = self._last_stats, self._busy
        now, busy_s = self._busy
        return {"busy_share": min((busy_s - before_s) / max(now - then, 1e-9), 1.0)}

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        silent_s = time.monotonic() - self._ticked
        if self._engine is not None and silent_s > STALL_S:
            raise RuntimeError(f"the fusion's event loop has not run for {silent_s:.0f} s")
        self._adopt_live()

    def __del__(self) -> None:
        # Serve calls this when it stops the replica: take no new connection, answer what came in, and end the loop.
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join(timeout=15)

    def _start(self, publication: Publication) -> None:
        self._thread = threading.Thread(target=self._run, args=(publication,), name="fusion", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise DeployError(f"the doors did not open within {START_TIMEOUT_S:.0f} s; see Ray's logs")
        if self._failure is not None:
            raise self._failure

    def _run(self, publication: Publication) -> None:
        import torch
        import uvloop

        torch.set_num_threads(1)  # per thread, in OpenMP: this is the one that fuses
        try:
            uvloop.run(self._serve(publication))
        except BaseException as failure:  # handed to the thread that waits in _start
            self._failure = failure
            self._started.set()

    async def _serve(self, publication: Publication) -> None:
        import ray
        import uvicorn

        from quorate.deployments.engine.engine import Engine
        from quorate.deployments.members.garbage_collection import spare_loaded
        from quorate.deployments.server.grpc.server import grpc_server
        from quorate.deployments.server.http.app import HttpDoor
        from quorate.deployments.server.http.protocol import JoinedHttpProtocol
        from quorate.deployments.server.service import Service
        from quorate.deployments.transport.key_store import cluster_keys

        self._loop = asyncio.get_running_loop()
        tls = cluster_keys().for_client()
        node_id = ray.get_runtime_context().get_node_id()
        engine = Engine(publication.spec, publication.folder, node_id, tls, publication.apps)
        service = Service(engine, self._publish_revision)
        grpc_door, _ = grpc_server(service, self._host, self._grpc_port, self._keeper, self._certificates)
        listener = _listener(self._host, self._http_port)
        # uvicorn inspects the application to guess its kind, and guesses wrong inside a Serve replica.
        config = uvicorn.Config(
            HttpDoor(service, self._keeper), interface="asgi3", lifespan="off", access_log=False, log_level="warning",
            http=JoinedHttpProtocol, proxy_headers=False, timeout_graceful_shutdown=10, server_header=False,
        )  # fmt: skip
        config.load()
        config.ssl = None if self._certificates is None else self._certificates.context
        self._server = uvicorn.Server(config)
        self._engine = engine
        self._find_members(publication, engine)
        ticker = asyncio.ensure_future(self._tick(engine))
        await self._wait_for_members(engine)
        await grpc_door.start()
        spare_loaded()
        self._loop.call_soon(self._started.set)
        await self._server.serve(sockets=[listener])
        await grpc_door.stop(GRPC_GRACE_S)
        ticker.cancel()
        engine.close()

    async def _publish_revision(self, spec: EnsembleSpec) -> None:
        """Make a spec that arrived at a door the live one on all replicas, this one among them."""
        from quorate.deployments.control.deploy import publish
        from quorate.deployments.engine.revision import build_revision

        def work() -> None:
            now = history(spec.name)[-1]
            build_revision(spec, now.folder)  # what cannot be built is the client's mistake, not the cluster's
            publish(replace(now, spec=spec))

        await asyncio.to_thread(work)

    def _adopt_live(self) -> None:
        """Take up a revision whose publication passed this replica by, because it was just starting."""
        found = stored(self._ensemble)
        if self._engine is None or not found or found == self._seen:
            return
        publication = live(self._ensemble, self._engine.spec.wiring)
        try:
            if publication.spec.revision != self._engine.revision.name:
                self._on_loop(self._prepare(publication))
                self.commit(publication.spec.revision)
        except QuorateError as error:
            _log.warning("revision %s was published but cannot be used here: %s", publication.spec.revision, error)
        self._seen = found

    def _find_members(self, publication: Publication, engine: Engine) -> None:
        from ray import serve

        from quorate.deployments.control.directory import listen

        for name, app in publication.apps.items():

            def on_replicas(addresses: dict[str, Any], app: str = app) -> None:
                self._loop.call_soon_threadsafe(engine.lanes.set_replicas, app, addresses)

            listen(app, on_replicas)
            if app not in self._handles:
                handle = serve.get_deployment_handle(name, app)
                self._handles[app] = handle.options()  # connects the handle, and with it the directory

    async def _wait_for_members(self, engine: Engine, revision: str = "") -> None:
        """Go on when every member of a revision answers, or after a while with those that do."""
        for _ in range(250):
            if all(engine.ready(revision).values()):
                return
            await asyncio.sleep(0.02)

    async def _tick(self, engine: Engine) -> None:
        while True:
            self._ticked = time.monotonic()
            self._busy = (self._ticked, time.thread_time())
            engine.reconcile()
            self._refresh_certificates()
            await asyncio.sleep(RECONCILE_S)

    def _refresh_certificates(self) -> None:
        try:
            if self._certificates is not None:
                self._certificates.refresh()
        except CredentialError as error:
            _log.error("the certificates on disk are not used: %s", error)

    async def _prepare(self, publication: Publication) -> str:
        assert self._engine is not None
        revision = self._engine.prepare(publication.spec, publication.folder, publication.apps)
        self._find_members(publication, self._engine)
        await self._wait_for_members(self._engine, revision)
        return revision

    async def _probe(self, revision: str, inputs: dict[str, Any]) -> Any:
        assert self._engine is not None
        return (await self._engine.infer(inputs, revision=revision)).values

    def _with_lanes(self, work: Callable[[Lanes], T]) -> T:
        async def done() -> T:
            assert self._engine is not None
            return work(self._engine.lanes)

        return self._on_loop(done())

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)


def _reachable(host: str) -> str:
    """The address by which others reach what is bound to ``host``."""
    import ray

    return ray.util.get_node_ip_address() if host in ("0.0.0.0", "::") else host


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(2048)
    listener.setblocking(False)
    return listener
