"""Every use of Ray's private parts, each with its reason: when a Ray release moves one, this file changes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.deployments.errors import DeployError, UnavailableError
from quorate.deployments.records.content_cache import ContentCache
from quorate.deployments.security.doors import at_port

_NAMESPACE = b"quorate"
STORE_TIMEOUT_S = 5.0
# Of some MiB, on a busy machine.
_PACKAGE_TIMEOUT_S = 30.0
# A replica that has been stopped for so long and still has a process was forgotten.
STOPPED_S = 30.0


class ClusterStore:
    """Ray's own key-value store, the internal one of its head process.

    Ray has no public store. Serve's ``user_config`` would do, but every ``serve.run`` restarts the replicas of the
    application it names; an actor would be one more process that can die, and would have to keep its state here all the
    same. This store lives as long as the cluster (with Redis behind it, longer than its head), answers while nothing of
    ours runs, and can put a key only where there is none.
    """

    def get(self, key: str) -> bytes:
        """What is kept under a key; empty for nothing."""
        found: bytes | None = _asked("internal_kv_get", key.encode())
        return found or b""

    def put(self, key: str, value: bytes, overwrite: bool = True) -> bool:
        """Keep a value; without ``overwrite`` only where there is none. Returns whether it is what is kept."""
        added: int = _asked("internal_kv_put", key.encode(), value, overwrite)
        # Ray asks once more where an answer got lost, and then finds what it has put itself.
        return overwrite or added == 1 or self.get(key) == value

    def delete(self, key: str) -> None:
        """Forget a key, whether there is one or not."""
        _asked("internal_kv_del", key.encode(), False)

    def keys(self, prefix: str) -> list[str]:
        """The keys that start so."""
        found: list[bytes] = _asked("internal_kv_keys", prefix.encode())
        return [key.decode() for key in found]


class Packages:
    """Ray's package store, the only place that an operator's machine reaches through the Jobs API to put bytes into.

    It is for code, and lives in the memory of the cluster's head: what is put there is to be taken out soon.
    """

    def get(self, name: str) -> bytes | None:
        """What was put; None for nothing."""
        found: bytes | None = _asked_store("internal_kv_get", _package(name), None, _PACKAGE_TIMEOUT_S)
        return found

    def put(self, name: str, data: bytes) -> None:
        """Put something."""
        _asked_store("internal_kv_put", _package(name), data, True, None, _PACKAGE_TIMEOUT_S)

    def has(self, name: str) -> bool:
        """Whether something was put."""
        return bool(_asked_store("internal_kv_exists", _package(name), None, _PACKAGE_TIMEOUT_S))

    def delete(self, name: str) -> None:
        """Forget one."""
        _asked_store("internal_kv_del", _package(name), False, None, _PACKAGE_TIMEOUT_S)

    def delete_all(self, prefix: str) -> None:
        """Forget those whose names start so."""
        _asked_store("internal_kv_del", _package(prefix), True, None, _PACKAGE_TIMEOUT_S)


def _package(name: str) -> bytes:
    return f"gcs://{name}".encode()


@dataclass(frozen=True)
class Shown:
    """Whether a token was shown to a cluster's head, and whether it took what it saw."""

    token: bool = False
    accepted: bool = True


def reach_head(address: str) -> Shown:
    """Connect to a cluster's head and hang up. Ray 2.60 gives a head that is away 13 minutes: 20 times 40 seconds, and
    one that wants another token 20 seconds, without a word of it.

    Args:
        address: as ``ray.init`` takes it.

    Raises:
        OSError: nobody listens there.
    """
    from ray._private.services import canonicalize_bootstrap_address

    found = None if "://" in address else canonicalize_bootstrap_address(address)
    if found is None:
        return Shown()
    host, _, port = found.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), STORE_TIMEOUT_S).close()
    return _show_token(found)


def _show_token(head: str) -> Shown:
    """Ask the head for the cluster's name, as Ray does first."""
    import grpc
    from ray._private.authentication.authentication_utils import is_token_auth_enabled
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest  # type: ignore[attr-defined]
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

    shown = bool(is_token_auth_enabled())
    with init_grpc_channel(head) as channel:
        try:
            NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=STORE_TIMEOUT_S)
        except grpc.RpcError as error:  # what else is wrong Ray says itself
            return Shown(shown, accepted=error.code() != grpc.StatusCode.UNAUTHENTICATED)
    return Shown(shown)


def _asked(method: str, *arguments: Any) -> Any:
    return _asked_store(method, *arguments, _NAMESPACE, STORE_TIMEOUT_S)


def _asked_store(method: str, *arguments: Any) -> Any:
    from ray.exceptions import RpcError
    from ray.experimental.internal_kv import internal_kv_get_gcs_client

    head = internal_kv_get_gcs_client()
    if head is None:
        raise UnavailableError("this process is connected to no cluster's head; connect first")
    try:
        return getattr(head, method)(*arguments)
    except RpcError as error:
        timeout_s = arguments[-1]
        raise UnavailableError(
            f"the cluster's head does not answer within {timeout_s:g} s ({error}); try again when it does"
        ) from None


@dataclass(frozen=True)
class AppState:
    """What Serve says of an application.

    Attributes:
        status: one of Serve's ``ApplicationStatus``.
        message: why, the application's and its deployments'.
    """

    status: str
    message: str

    @property
    def runs(self) -> bool:
        """Whether all of it runs, as far as Serve knows."""
        return self.status == "RUNNING"

    @property
    def alive(self) -> bool:
        """Whether it runs or comes up; neither failed nor ending."""
        return self.status in ("RUNNING", "UNHEALTHY", "DEPLOYING")


def app_states() -> dict[str, AppState]:
    """Of each application that Serve knows, by its name; none where Serve does not run.

    ``serve.status`` pickles the request router of every deployment, here and in the controller: for 9 applications it
    takes 17 ms, this 2.
    """
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return {}
    return {
        app.name: AppState(
            app.app_status.status.value,
            " ".join(filter(None, (app.app_status.message, *(found.message for found in app.deployment_statuses)))),
        )
        for app in client.list_serve_statuses()
    }


def free_per_node() -> dict[str, dict[str, float]]:
    """What each node has free now, by its id. Ray's public call adds all nodes up."""
    from ray._private.state import available_resources_per_node

    found: dict[str, dict[str, float]] = available_resources_per_node()
    return found


def session_folder() -> Path:
    """Ray's folder for this session on this node, which goes when the cluster goes. Ray has no public way to ask."""
    from ray._private import worker

    node: Any = worker._global_node
    return Path(node.get_session_dir_path())


def kept_root() -> Path:
    """Where copies of published files are on this node: below ``QUORATE_CACHE``, else in Ray's session folder."""
    chosen = os.environ.get("QUORATE_CACHE")
    return (Path(chosen) if chosen else private_folder()) / "kept"


def private_folder() -> Path:
    """A folder that only this user can enter, in Ray's session folder, so that it goes when the cluster goes."""
    folder = session_folder() / "quorate"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def content_cache() -> ContentCache:
    """Contents of files on this node, of at most ``QUORATE_CACHE_BYTES``, or half of what the disk has for them."""
    limit = os.environ.get("QUORATE_CACHE_BYTES", "")
    if limit and not limit.isdigit():
        raise DeployError(f"QUORATE_CACHE_BYTES is '{limit}', no number of bytes; correct it where the node is started")
    return ContentCache(kept_root(), int(limit) if limit else None)


@contextlib.contextmanager
def without_log_monitor() -> Iterator[None]:
    """Nodes that this process starts meanwhile have none, as after ``ray start --include-log-monitor false``.

    It reads what workers write, to show it to drivers, which ours do not want. ``ray.init`` has no setting for it.
    """
    from ray._private.node import Node

    start = Node.start_log_monitor
    Node.start_log_monitor = lambda node: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Node.start_log_monitor = start  # type: ignore[method-assign]


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Nodes that this process starts meanwhile listen on loopback alone, and it finds those that do.

    As on macOS and Windows. On Linux Ray 2.60 puts the address that other machines reach in the place of 127.0.0.1,
    whoever says it, and its processes then listen on all of the machine's.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def bind_serve_to_node() -> None:
    """Have the port of Serve's own of this replica stand at the node's address alone, where Serve looks for it.

    Serve 2.60 binds it on all addresses of the machine, once the replica's class has been made.
    """
    import ray
    from ray.serve._private import replica

    names: dict[str, Any] = vars(replica)
    add, here = names["add_port_to_grpc_server"], at_port(ray.util.get_node_ip_address(), 0)
    names["add_port_to_grpc_server"] = lambda server, address: add(server, here)


@contextlib.contextmanager
def without_drawn_ids() -> Iterator[None]:
    """Classes that become actors meanwhile get their ids from the system, not from the generator of Ray's library.

    The library seeds that at the first id that it draws, once a process: processes forked later would draw the same.
    """
    from ray import actor

    names: dict[str, Any] = vars(actor)
    ids = names["ActorClassID"]
    names["ActorClassID"] = _IdsOfTheSystem
    try:
        yield
    finally:
        names["ActorClassID"] = ids


class _IdsOfTheSystem:
    @staticmethod
    def from_random() -> Any:
        from ray import ActorClassID

        return ActorClassID(os.urandom(ActorClassID.size()))


def forbid_auto_init() -> None:
    """From now on this process joins a cluster only by ``ray.init``.

    Serve's thread outlives a connection; what it calls then would have Ray start a cluster on this machine.
    """
    import ray
    from ray._private import auto_init_hook
    from ray.serve._private.router import SingletonThreadRouter

    auto_init_hook.enable_auto_connect = False

    def report(loop: asyncio.AbstractEventLoop, failure: dict[str, Any]) -> None:
        if ray.is_initialized():  # else it is of a call without a cluster
            loop.default_exception_handler(failure)

    loop = SingletonThreadRouter._asyncio_loop
    if loop is not None:
        loop.call_soon_threadsafe(loop.set_exception_handler, report)


def end_process_later() -> None:
    """End this process, a stopped replica's, in a while.

    Ray does at once when Serve asks for it, but not where the head was started again while the replica's constructor
    ran (2.60): that process would hold its memory, and its GPU, for as long as its node lives.
    """
    timer = threading.Timer(STOPPED_S, os._exit, (0,))
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # the process ends already
        timer.start()


def count_gpus() -> int:
    """GPUs of this machine, as Ray would count them when it starts here; its public calls need a running Ray."""
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    return int(NvidiaGPUAcceleratorManager.get_current_node_num_accelerators())
