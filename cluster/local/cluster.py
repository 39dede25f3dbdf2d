"""A Ray cluster of our own on this machine: started when no other is named, stopped without leaving anything behind.

One process, the host, owns it. ``quorate deploy`` starts the host in the background, ``--foreground`` is the host.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from quorate.cluster.local.ray_token import TOKEN_VARIABLES, showing_token
from quorate.cluster.local.state import (
    FOLDER_PREFIX,
    MARK,
    LocalCluster,
    belongs,
    family,
    find,
    kill,
    sweep,
    write_state,
)
from quorate.deployments.control.forked_workers import BEFORE_RAY, REPLICA_MODULES, start_ray
from quorate.deployments.control.placement import logical_gpus
from quorate.deployments.control.ray_private import app_states, on_loopback
from quorate.deployments.errors import ClusterError
from quorate.deployments.fork_server import early
from quorate.deployments.state_folder import state_folder

START_TIMEOUT_S = 240.0  # on a busy machine; a host that fails says so at once
START_ATTEMPTS = 3
STOP_TIMEOUT_S = 45.0
DRAIN_TIMEOUT_S = 25.0
# Replicas of small models share cores; what a logical CPU buys is the machine's business, not the scheduler's.
MIN_LOGICAL_CPUS = 32
OBJECT_STORE_BYTES = 256 << 20


def start() -> LocalCluster:
    """Start a host in the background, or find the one that runs.

    Raises:
        ClusterError: it did not come up; the text says what it wrote last.
    """
    with _lock():
        found = find()
        if found is not None:
            return found
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        log = folder / "host.log"
        with log.open("wb") as output:
            host = subprocess.Popen(
                [sys.executable, "-m", "quorate.cluster.local.host", str(folder)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + START_TIMEOUT_S
        import_module("quorate.deployments.control.deploy")  # and Ray: what the command will need, while it waits
        while time.monotonic() < until and host.poll() is None:
            found = find()
            if found is not None:
                return found
            time.sleep(0.05)
        kill([*family(host.pid)])
        host.wait()
        lines = log.read_text(errors="replace").strip().splitlines()
        shutil.rmtree(folder, ignore_errors=True)
        raise ClusterError(f"the local cluster did not start: {lines[-1] if lines else 'its log is empty'}")


def stop(cluster: LocalCluster) -> None:
    """Stop the host and wait until nothing of it is left."""
    processes = family(cluster.pid)
    if processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes[0].send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S)
        kill(alive)
    sweep(cluster)


@contextlib.contextmanager
def hosting(folder: Path, announce: bool = True) -> Iterator[LocalCluster]:
    """Own a cluster for as long as the context lasts; this process becomes the host.

    Args:
        folder: an empty folder, removed at the end; its path must be short, Ray puts socket files below it.
        announce: let other commands find the cluster.
    """
    _set_environment()
    os.environ[MARK] = str(folder)
    with (
        early.begun(folder, BEFORE_RAY),
        showing_token(_make_token(folder / "token")),
        _running(folder, announce) as cluster,
    ):
        yield cluster


@contextlib.contextmanager
def _running(folder: Path, announce: bool) -> Iterator[LocalCluster]:
    import ray  # reads the environment when it is imported
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)

    me = psutil.Process()
    others = set(me.children(recursive=True))
    context = _start_ray(folder, others)
    cluster = LocalCluster(me.pid, me.create_time(), str(context.address_info["address"]), str(folder))
    serve.start(proxy_location="Disabled")
    if announce:
        write_state(cluster)
    try:
        yield cluster
    finally:
        # Forked workers are nobody's children.
        processes = [
            process for process in psutil.process_iter() if process not in others and belongs(process, cluster)
        ]
        with contextlib.suppress(Exception):  # a controller that is already gone must not keep the rest alive
            _stop_serving()
        ray.shutdown()
        _, alive = psutil.wait_procs(processes, timeout=10)
        kill(alive)
        if announce:
            (state_folder() / "local.json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _start_ray(folder: Path, others: set[psutil.Process], attempts: int = START_ATTEMPTS) -> Any:
    """Ray 2.60 gives its own processes 30 s, however busy the machine is: then they are started anew."""
    try:
        with on_loopback():
            return start_ray(
                folder,
                REPLICA_MODULES,
                num_cpus=max(os.cpu_count() or 1, MIN_LOGICAL_CPUS),
                num_gpus=logical_gpus(),
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(folder / "ray"),  # which it opens to all users; ours stays closed around it
            )
    except Exception as error:
        if attempts == 1 or "timed out during startup" not in str(error):
            raise
    kill([child for child in psutil.Process().children(recursive=True) if child not in others])
    return _start_ray(folder, others, attempts - 1)


def _stop_serving() -> None:
    """Replicas finish what they have, which Ray's shutdown would cut off: first doors, while members are there."""
    from ray import serve

    from quorate.deployments.control.serve_apps import is_door

    until = time.monotonic() + DRAIN_TIMEOUT_S
    for doors in (True, False):
        leaving = {app for app in app_states() if is_door(app) is doors}
        for app in leaving:
            serve.delete(app, _blocking=False)
        while leaving & app_states().keys() and time.monotonic() < until:
            time.sleep(0.05)


def _set_environment() -> None:
    """What Ray reads at start-up, unless the user has said otherwise."""
    # Ray's workers run at niceness 15 by default: any other program on the machine would stall every answer.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # 32 idle interpreters serve nobody
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def _make_token(path: Path) -> Path | None:
    """The cluster's own secret, unless the user has chosen how Ray authenticates."""
    if any(name in os.environ for name in TOKEN_VARIABLES):
        return None
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    return path


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Two commands that both find no cluster must not start two."""
    with (state_folder() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
