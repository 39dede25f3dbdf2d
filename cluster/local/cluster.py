"""A Ray cluster of our own on this machine: started when no other is named, stopped without leaving anything behind.

One process, the host, owns it. ``quorate deploy`` starts the host in the background, ``--foreground`` is the host.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from quorate.cluster.local.ray_token import TOKEN_VARIABLES, showing_token
from quorate.deployments.atomic_files import write_whole
from quorate.deployments.control.forked_workers import REPLICA_MODULES, start_ray
from quorate.deployments.control.placement import logical_gpus
from quorate.deployments.control.ray_private import app_states, on_loopback
from quorate.deployments.control.serve_apps import is_door
from quorate.deployments.errors import ClusterError
from quorate.deployments.state_folder import state_folder

START_TIMEOUT_S = 240.0  # on a busy machine; a host that fails says so at once
START_ATTEMPTS = 3
STOP_TIMEOUT_S = 45.0
DRAIN_TIMEOUT_S = 25.0
# Replicas of small models share cores; what a logical CPU buys is the machine's business, not the scheduler's.
MIN_LOGICAL_CPUS = 32
OBJECT_STORE_BYTES = 256 << 20
# Of the folders of local clusters, in the one for temporary files.
FOLDER_PREFIX = "quorate-"
# Set for the host and all that it starts: the folder of its cluster.
MARK = "QUORATE_CLUSTER_FOLDER"


@dataclass(frozen=True)
class LocalCluster:
    """A host that runs.

    Attributes:
        pid: the host's process id; ``created`` is that process's start, since ids come round again.
        address: where Ray's own clients connect.
        folder: everything the cluster wrote.
    """

    pid: int
    created: float
    address: str
    folder: str

    @property
    def token(self) -> Path | None:
        """The file of the token that the cluster asks of everyone; None where the user chose how Ray authenticates."""
        token = Path(self.folder) / "token"
        return token if token.exists() else None

    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def find() -> LocalCluster | None:
    """The local cluster that runs now; what a dead host left behind is swept away."""
    state = state_folder() / "local.json"
    try:
        cluster = LocalCluster(**json.loads(state.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        state.unlink()
        return None
    if cluster.alive():
        return cluster
    _sweep(cluster)
    return None


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
        while time.monotonic() < until and host.poll() is None:
            found = find()
            if found is not None:
                return found
            time.sleep(0.05)
        _kill([*_family(host.pid)])
        host.wait()
        lines = log.read_text(errors="replace").strip().splitlines()
        shutil.rmtree(folder, ignore_errors=True)
        raise ClusterError(f"the local cluster did not start: {lines[-1] if lines else 'its log is empty'}")


def stop(cluster: LocalCluster) -> None:
    """Stop the host and wait until nothing of it is left."""
    family = _family(cluster.pid)
    if family:
        with contextlib.suppress(psutil.NoSuchProcess):
            family[0].send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
        _kill(alive)
    _sweep(cluster)


@contextlib.contextmanager
def hosting(folder: Path, announce: bool = True) -> Iterator[LocalCluster]:
    """Own a cluster for as long as the context lasts; this process becomes the host.

    Args:
        folder: an empty folder, removed at the end; its path must be short, Ray puts socket files below it.
        announce: let other commands find the cluster.
    """
    _set_environment()
    os.environ[MARK] = str(folder)
    with showing_token(_make_token(folder / "token")), _running(folder, announce) as cluster:
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
        _write_state(cluster)
    try:
        yield cluster
    finally:
        # Forked workers are nobody's children.
        processes = [
            process for process in psutil.process_iter() if process not in others and _belongs(process, cluster)
        ]
        with contextlib.suppress(Exception):  # a controller that is already gone must not keep the rest alive
            _stop_serving()
        ray.shutdown()
        _, alive = psutil.wait_procs(processes, timeout=10)
        _kill(alive)
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
    _kill([child for child in psutil.Process().children(recursive=True) if child not in others])
    return _start_ray(folder, others, attempts - 1)


def _stop_serving() -> None:
    """Replicas finish what they have, which Ray's shutdown would cut off: first doors, while members are there."""
    from ray import serve

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


def _write_state(cluster: LocalCluster) -> None:
    write_whole(state_folder() / "local.json", json.dumps(asdict(cluster)).encode())


def _sweep(cluster: LocalCluster) -> None:
    """Remove what a host that died without stopping left: most of its Ray processes end with it, its files do not."""
    _kill([process for process in psutil.process_iter() if _belongs(process, cluster)])
    shutil.rmtree(cluster.folder, ignore_errors=True)
    (state_folder() / "local.json").unlink(missing_ok=True)


def _belongs(process: psutil.Process, cluster: LocalCluster) -> bool:
    """Whether it is of the cluster: started with its mark, or writing into its folder.

    Ray's processes rename themselves, over their environment too, so the mark alone would miss some. Somebody who only
    reads a log of the cluster is none of them.
    """
    if process.pid == os.getpid():
        return False
    try:
        if process.environ().get(MARK) == cluster.folder:
            return True
        written = [file.path for file in process.open_files() if getattr(file, "mode", "w") != "r"]
        return process.exe() in _ours() and any(cluster.folder in path for path in written)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _ours() -> set[str]:
    """What Ray runs its processes with."""
    ray = importlib.util.find_spec("ray")
    core = Path(ray.origin or "").parent / "core" / "src" / "ray" if ray else Path()
    found = {str((core / name).resolve()) for name in ("gcs/gcs_server", "raylet/raylet")}
    return {os.path.realpath(sys.executable), *found}


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that it started; nothing where it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Two commands that both find no cluster must not start two."""
    with (state_folder() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
