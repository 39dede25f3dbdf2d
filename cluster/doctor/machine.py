"""What the machine gives: GPUs, memory, files that may be open, ports, sockets."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from quorate.cluster.doctor.finding import Finding
from quorate.deployments.memory_budget import default_limit_bytes
from quorate.deployments.security.doors import bind
from quorate.fusion.extras import lacking

_NVIDIA = Path("/proc/driver/nvidia/version")
_SHARED_MEMORY = Path("/dev/shm")
_GIB = 1 << 30
_FEW_FILES, _ENOUGH_FILES = 1024, 8192
_LEAST_MEMORY, _LEAST_DISK = 2 * _GIB, 2 * _GIB
# What Ray puts behind the temporary folder, and what a socket's path may have in all.
_RAYS_PATH, _MOST_PATH = 86, 107


def check_machine(shared_memory_bytes: int) -> Iterator[Finding]:
    """Args:
    shared_memory_bytes: that a local cluster takes.
    """
    yield _gpus()
    yield _memory()
    yield _shared_memory(shared_memory_bytes)
    yield _open_files()
    yield _ports()
    yield _temporary_folder()


def _gpus() -> Finding:
    driver = _NVIDIA.exists()
    if lacking("serve"):
        return Finding("GPU", "ok", "an NVIDIA driver is there" if driver else "none: members run on the CPU")
    try:
        import torch
    except (ImportError, OSError) as error:  # of its libraries the system lacks one
        return Finding(
            "GPU", "failed", f"torch cannot be imported ({error})", "pip install torch again, see pytorch.org"
        )
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Finding("GPU", "ok", f"{len(names)}: {', '.join(names)}, by torch {torch.__version__}")
    if driver:
        fix = "install a torch for its driver, see pytorch.org"
        return Finding("GPU", "warning", f"an NVIDIA driver, which torch {torch.__version__} cannot use", fix)
    return Finding("GPU", "ok", f"none: torch {torch.__version__} runs members on the CPU")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = (
        f"{total / _GIB:.1f} GiB, {os.cpu_count()} cores; a server holds requests of {default_limit_bytes():,} bytes"
    )
    if total < _LEAST_MEMORY:
        return Finding("memory", "warning", found, "Ray and one torch model want 2 GiB")
    return Finding("memory", "ok", found)


def _shared_memory(wanted: int) -> Finding:
    if not _SHARED_MEMORY.is_dir():
        return Finding("shared memory", "ok", "this system has no /dev/shm; Ray uses its temporary folder")
    usage = shutil.disk_usage(_SHARED_MEMORY)
    found = f"{usage.free >> 20} of {usage.total >> 20} MiB of {_SHARED_MEMORY} are free"
    if usage.free < wanted:
        fix = f"give it {wanted >> 20} MiB (docker run --shm-size=1g), or Ray uses the disk, which is slower"
        return Finding("shared memory", "warning", found, fix)
    return Finding("shared memory", "ok", found)


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft} may be open at once"
    most = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    fix = f"ulimit -n {most}" if most > soft else "have the administrator raise the hard limit, see ulimit -Hn"
    if soft < _FEW_FILES:
        return Finding("open files", "failed", found, fix)
    if soft < _ENOUGH_FILES:
        return Finding("open files", "warning", found, f"{fix}, for more than some hundred clients")
    return Finding("open files", "ok", found)


def _ports() -> Finding:
    try:
        with bind("127.0.0.1", 0, False) as bound:
            return Finding("ports", "ok", f"127.0.0.1 has free ones, such as {bound.getsockname()[1]}")
    except OSError as error:
        return Finding(
            "ports", "failed", f"none of 127.0.0.1 can be bound ({error.strerror})", "free some, see ss -ltn"
        )


def _temporary_folder() -> Finding:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryDirectory() as made, socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(Path(made) / "socket"))
            free = shutil.disk_usage(made).free
    except OSError as error:
        return Finding(
            "temporary folder", "failed", f"{folder} takes no socket ({error})", "set TMPDIR to one that does"
        )
    found = f"{folder}, {free / _GIB:.1f} GiB free"
    if len(folder) + _RAYS_PATH > _MOST_PATH:
        fix = "set TMPDIR to a shorter path: Ray's sockets lie below it"
        return Finding("temporary folder", "failed", f"{folder} is too long a path", fix)
    if free < _LEAST_DISK:
        return Finding("temporary folder", "warning", found, "free some: Ray's logs and copies of models lie there")
    return Finding("temporary folder", "ok", found)
