"""The process that answers: a thread with its own event loop runs the engine, the HTTP door and the gRPC door.

Nothing of Ray is in here: whoever starts it says how members are found and how a revision is published.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import uvicorn
import uvloop

from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.revision import Revision
from quorate.deployments.engine.revision_set import RevisionSet
from quorate.deployments.errors import CredentialError, DeployError
from quorate.deployments.learning.learning import Learning
from quorate.deployments.learning.shadows.asking import Asks
from quorate.deployments.learning.shadows.shadow_fusions import ShadowFusions
from quorate.deployments.members.garbage_collection import spare_loaded
from quorate.deployments.routing.replica import Address
from quorate.deployments.security.access import Doorkeeper
from quorate.deployments.security.certificates import Certificates
from quorate.deployments.security.doors import WILDCARDS, at_port, bind
from quorate.deployments.server.grpc.door import GrpcDoor
from quorate.deployments.server.http.app import HttpDoor
from quorate.deployments.server.http.connection.protocol import JoinedHttpProtocol
from quorate.deployments.server.service import DoorAddresses, Publish, Service
from quorate.deployments.server.telemetry_settings import Configure
from quorate.deployments.spec.ensemble import EnsembleSpec

T = TypeVar("T")
_log = logging.getLogger(__name__)

RECONCILE_S = 0.5
START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 30.0
# Replicas of members are waited for so long; then requests are answered with those that are there.
MEMBERS_TIMEOUT_S, _POLL_S = 5.0, 0.02
# How long calls under way may still take when the server stops, at either door.
GRACE_S = 10
STOP_TIMEOUT_S = 15.0
_BACKLOG = 2048

# Given an application of a member: call the second with its replicas, from any thread, now and whenever they change,
# until what is returned is called.
FindMember = Callable[[str, Callable[[dict[str, Address]], None]], Callable[[], None]]


@dataclass(frozen=True)
class Served:
    """A revision as a server is given it.

    Attributes:
        folder: what the spec's relative paths start from.
        apps: by member, the name that its replicas are found by.
    """

    spec: EnsembleSpec
    folder: Path
    apps: Mapping[str, str]


@dataclass(frozen=True)
class ServerSettings:
    """Where both doors stand and whom they admit; port 0 takes a free one.

    Several processes of a node may listen on the same two ports (SO_REUSEPORT).
    """

    host: str
    http_port: int
    grpc_port: int
    keeper: Doorkeeper
    certificates: Certificates | None = None


class FusionServer:
    """Runs an ensemble's fusion. Its methods may be called from any other thread than its own.

    Attributes:
        engine: what answers; it lives on the server's thread, likewise ``service``, ``http_door`` and ``learning``.
        http_port: that it listens on, likewise ``grpc_port``.
        doors: what clients are told of the ensemble's doors: its own, until somebody who knows others sets it.
    """

    engine: Engine
    service: Service
    learning: Learning
    http_door: HttpDoor
    http_port: int
    grpc_port: int
    doors: DoorAddresses

    def __init__(
        self,
        settings: ServerSettings,
        make_engine: Callable[[Served], Engine],
        find_member: FindMember,
        publish: Publish | None = None,
        configure: Configure | None = None,
    ):
        """Args:
        settings: where its doors stand.
        make_engine: called on the server's thread.
        find_member: says where members are.
        publish: makes live what a function makes of the live spec; None where there is nothing to publish to.
        configure: see ``Service``.
        """
        self._configure = configure
        self._settings, self._make_engine, self._find_member, self._publish = (
            settings,
            make_engine,
            find_member,
            publish,
        )
        self._started, self._opened = threading.Event(), threading.Event()
        self._stopped = False
        self._failure: BaseException | None = None
        self._http: uvicorn.Server | None = None
        self._ticked = time.monotonic()
        self._found: dict[str, Callable[[], None]] = {}  # how to find its members no more, by application
        self._beside: set[tuple[str, str]] = set()  # members that only shadows ask, by application and name
        self._busy = self._last_busy = (self._ticked, 0.0)

    def start(self, served: Served, opening: bool = True) -> None:
        """Be ready to answer, when all members are there or after a while with those that are.

        Args:
            opening: the doors, too; else their ports are bound, and nobody comes in before ``open_doors``.

        Raises:
            DeployError: it was not ready in time.
            Exception: what kept it from being ready.
        """
        self._thread = threading.Thread(target=self._run, args=(served,), name="fusion", daemon=True)
        self._thread.start()
        self._wait_for(self._started)
        if opening:
            self.open_doors()

    def open_doors(self) -> None:
        """Let clients in; nothing happens where they are in already."""
        self._loop.call_soon_threadsafe(self._may_open.set)
        self._wait_for(self._opened)

    def stop(self) -> None:
        """Take no new connection, answer what came in, and end the thread."""
        if self._http is not None:
            self.service.leaving = True
            self._http.should_exit = True
            with contextlib.suppress(RuntimeError):  # it has stopped before
                self._loop.call_soon_threadsafe(self._stopping.set)
        elif self._started.is_set() and self._failure is None:
            self._stopped = True
            self._loop.call_soon_threadsafe(self._may_open.set)
        self._thread.join(timeout=STOP_TIMEOUT_S)

    def _wait_for(self, event: threading.Event) -> None:
        if not event.wait(START_TIMEOUT_S):
            raise DeployError(f"the doors did not open within {START_TIMEOUT_S:.0f} s; see Ray's logs")
        if self._failure is not None:
            raise self._failure

    def prepare(self, served: Served) -> str:
        """Build a revision beside the live one and find its members; returns its name.

        Raises:
            QuorateError: it cannot be built; nothing has changed.
        """
        return self.call(self._prepare(served))

    def probe(self, revision: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """What a prepared revision answers, (B, C) by output; requests go on with the live one."""

        async def answers() -> dict[str, Any]:
            served = self.engine.revisions.get(revision)
            if not served.views:
                answer = await self.engine.infer(inputs, served=served, rehearsal=True)
                return {served.revision.graph.output.name: answer.values}
            found = await self.engine.infer_outputs(tuple(served.views), inputs, served, rehearsal=True)
            for error in found.errors.values():
                raise error
            return {name: answer.values for name, answer in found.answers.items()}

        return self.call(answers())

    def with_revisions(self, work: Callable[[RevisionSet], T]) -> T:
        """Do something with the revisions on the server's thread."""

        async def done() -> T:
            return work(self.engine.revisions)

        return self.call(done())

    def with_shadows(self, work: Callable[[ShadowFusions], T]) -> T:
        """Do something with the shadow fusions on the server's thread."""

        async def done() -> T:
            return work(self.learning.shadows)

        return self.call(done())

    def use_shadows(
        self, revisions: Sequence[Revision], failed: Mapping[str, str], asks: Mapping[str, Asks]
    ) -> None:  # fmt: skip
        """Have these shadow fusions from now on, and what they ask connected; arguments as of ``ShadowFusions.use``."""

        async def done() -> None:
            keys = {key for one in asks.values() for key in one.keys}
            new, self._beside = keys - self._beside, keys
            self.engine.revisions.connect_beside(keys)
            self._find_apps({app for app, _ in new})
            self.learning.shadows.use(revisions, failed, asks)

        self.call(done())

    def drift(self) -> dict[str, Any]:
        """How far members and answers have drifted here; see ``Monitors.report``."""
        return self.learning.told_drift()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's thread and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=CALL_TIMEOUT_S)

    def stalled_s(self) -> float:
        """Since when the event loop has not run."""
        return time.monotonic() - self._ticked

    def busy_share(self) -> float:
        """Share of the time since the last call that the event loop's thread was computing."""
        (then, before_s), self._last_busy = self._last_busy, self._busy
        now, busy_s = self._busy
        return min((busy_s - before_s) / max(now - then, 1e-9), 1.0)

    def _run(self, served: Served) -> None:
        torch.set_num_threads(1)  # per thread, in OpenMP: this is the one that fuses
        try:
            uvloop.run(self._serve(served))
        except BaseException as failure:  # handed to the thread that waits in start
            self._failure = failure
            self._started.set()
            self._opened.set()

    async def _serve(self, served: Served) -> None:
        self._loop, self._may_open, self._stopping = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self.engine = engine = self._make_engine(served)
        self.learning = Learning(engine)
        self.service = service = Service(
            engine, self._publish, lambda: self.doors, configure=self._configure, learning=self.learning
        )
        engine.metrics.state.event_loop_cpu_s = time.thread_time
        if self._settings.certificates is not None:
            engine.metrics.state.certificates_expire = self._settings.certificates.expire
        try:
            with contextlib.ExitStack() as held:
                http = held.enter_context(bind(self._settings.host, self._settings.http_port, share=True))
                grpc = held.enter_context(bind(self._settings.host, self._settings.grpc_port, share=True))
                self.http_port, self.grpc_port = http.getsockname()[1], grpc.getsockname()[1]
                self.doors = self._own_doors()
                engine.metrics.state.door = at_port(self._settings.host, self.http_port), str(os.getpid())
                self._find_members(served)
                ticker = asyncio.ensure_future(self._tick())
                await self._wait_for_members()
                spare_loaded()
                self._started.set()
                await self._may_open.wait()
                if not self._stopped:
                    await self._answer(http, grpc)
                ticker.cancel()
        finally:
            engine.close()
            self.learning.close()
            service.heavy.close()

    async def _answer(self, http: socket.socket, grpc: socket.socket) -> None:
        """Open both doors, and return when they have closed."""
        settings, service = self._settings, self.service
        grpc_door = GrpcDoor(service, settings.keeper)
        await grpc_door.open(grpc, settings.certificates)
        self.http_door = HttpDoor(service, settings.keeper)
        self._http = _http_server(self.http_door, settings.certificates)
        http.setblocking(False)
        http.listen(_BACKLOG)
        self._loop.call_soon(self._opened.set)
        serving = asyncio.ensure_future(self._http.serve(sockets=[http]))
        serving.add_done_callback(lambda _: self._stopping.set())
        await self._stopping.wait()
        await asyncio.gather(serving, grpc_door.close(GRACE_S))  # both at once: no door outlives the other

    def _own_doors(self) -> DoorAddresses:
        host = self._settings.host
        if host in WILDCARDS:  # no address to go to
            return DoorAddresses()
        return DoorAddresses((at_port(host, self.http_port),), (at_port(host, self.grpc_port),))

    def _find_members(self, served: Served) -> None:
        self._find_apps(served.apps.values())

    def _find_apps(self, apps: Iterable[str]) -> None:
        for app in apps:

            def on_replicas(addresses: dict[str, Address], app: str = app) -> None:
                self._loop.call_soon_threadsafe(self.engine.revisions.set_replicas, app, addresses)

            self._found[app] = self._find_member(app, on_replicas)

    async def _wait_for_members(self, revision: str = "") -> None:
        """Go on when every member of a revision answers, or after a while with those that do."""
        for _ in range(int(MEMBERS_TIMEOUT_S / _POLL_S)):
            if all(self.engine.ready(revision).values()):
                return
            await asyncio.sleep(_POLL_S)

    async def _prepare(self, served: Served) -> str:
        revision = self.engine.prepare(served.spec, served.folder, served.apps)
        self._find_members(served)
        await self._wait_for_members(revision)
        return revision

    async def _tick(self) -> None:
        while True:
            self._ticked = time.monotonic()
            self._busy = (self._ticked, time.thread_time())
            for app in self.engine.reconcile():
                self._found.pop(app)()
            self.learning.tick()
            self._refresh_certificates()
            await asyncio.sleep(RECONCILE_S)

    def _refresh_certificates(self) -> None:
        try:
            if self._settings.certificates is not None:
                self._settings.certificates.refresh()
        except CredentialError as error:
            _log.error("the certificates on disk are not used: %s", error)


def _http_server(door: HttpDoor, certificates: Certificates | None) -> uvicorn.Server:
    # uvicorn inspects the application to guess its kind, and guesses wrong inside a Serve replica. Its default logging
    # configuration closes the handlers of Serve, whose next controller could then not adopt the replica.
    config = uvicorn.Config(
        door, interface="asgi3", lifespan="off", access_log=False, log_level="warning", http=JoinedHttpProtocol,
        log_config=None, proxy_headers=False, timeout_graceful_shutdown=GRACE_S, server_header=False, ws="none",
    )  # fmt: skip
    config.load()
    config.ssl = None if certificates is None else certificates.http
    return uvicorn.Server(config)
