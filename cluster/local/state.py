"""The local cluster that runs now, as its state file names it, and what is of it; nothing of Ray is imported here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from quorate.deployments.atomic_files import write_whole
from quorate.deployments.state_folder import state_folder

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
    sweep(cluster)
    return None


def write_state(cluster: LocalCluster) -> None:
    write_whole(state_folder() / "local.json", json.dumps(asdict(cluster)).encode())


def sweep(cluster: LocalCluster) -> None:
    """Remove what a host that died without stopping left: most of its Ray processes end with it, its files do not."""
    kill([process for process in psutil.process_iter() if belongs(process, cluster)])
    shutil.rmtree(cluster.folder, ignore_errors=True)
    (state_folder() / "local.json").unlink(missing_ok=True)


def belongs(process: psutil.Process, cluster: LocalCluster) -> bool:
    """Whether it is of the cluster: started with its mark, or writing into its folder.

    Ray's processes rename themselves, over their environment too, so the mark alone would miss some. Somebody who only
    reads a log of the cluster is none of them, and neither is who has connected to it: Ray keeps a driver's log open as
    long as the driver lives, and that is a notebook or a script of the user's.
    """
    if process.pid == os.getpid():
        return False
    try:
        if process.environ().get(MARK) == cluster.folder:
            return True
        written = [file.path for file in process.open_files() if getattr(file, "mode", "w") != "r"]
        if any(Path(path).name.startswith("python-core-driver-") for path in written):
            return False
        return process.exe() in _ours() and any(cluster.folder in path for path in written)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _ours() -> set[str]:
    """What Ray runs its processes with."""
    ray = importlib.util.find_spec("ray")
    core = Path(ray.origin or "").parent / "core" / "src" / "ray" if ray else Path()
    found = {str((core / name).resolve()) for name in ("gcs/gcs_server", "raylet/raylet")}
    return {os.path.realpath(sys.executable), *found}


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started; nothing where it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
