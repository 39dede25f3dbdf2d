"""The process that workers are forked from; it ends when the raylet that it forks for has ended.

python server.py <descriptor of a listening Unix socket>
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

_REQUEST_BYTES = 1 << 24


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Fork a worker for each request.

    Returns:
        In a worker what it was asked for, in the server None when it is time to end.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    raylet = os.pidfd_open(int(os.environ["RAY_RAYLET_PID"]))
    asked_for: set[str] = set()
    for connection in connections(listener, raylet):
        with connection, contextlib.suppress(OSError, ValueError):
            request = received(connection)
            if request["environment"].get("RAY_JOB_ID") != os.environ.get("RAY_JOB_ID"):
                # Ray's library has read the id of this server's job, once for all: a fork would get no work of another.
                _close(request["descriptors"])
                continue  # whoever asks starts its own Python
            if _import(request["modules"], asked_for) and not _forks_draw_different_ids():
                return None  # whoever asks starts its own Python
            if os.fork() == 0:
                os.setsid()  # Ray may kill a worker's whole process group
                os.close(raylet)
                return request
            connection.sendall(b"\1")
            _close(request["descriptors"])
    return None


def connections(listener: socket.socket, process: int) -> Iterator[socket.socket]:
    """Those that come until a process, by its pidfd, has ended.

    ``select`` would take no descriptor above 1023, and a listener has the number that it had in whoever made it.
    """
    watched = select.poll()
    for descriptor in (listener.fileno(), process):
        watched.register(descriptor, select.POLLIN)
    while process not in dict(watched.poll()):
        yield listener.accept()[0]


def received(connection: socket.socket) -> dict[str, Any]:
    """What ``start_worker`` sends: a dictionary, and descriptors that go with it."""
    connection.settimeout(10)  # of one that asks and then stops; the others wait
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    size = int.from_bytes(head, "big")
    if len(head) < 4 or size > _REQUEST_BYTES:
        raise ValueError(f"a request of {size} bytes")
    with connection.makefile("rb") as stream:
        body = stream.read(size)
    return {**json.loads(body), "descriptors": descriptors}


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _import(modules: list[str], asked_for: set[str]) -> bool:
    """Import those that nobody has asked for before, and note that somebody has; whether there were any."""
    new = [name for name in modules if name not in asked_for]
    asked_for.update(new)
    for name in new:
        with contextlib.suppress(Exception):  # the worker will meet it again, and say so
            importlib.import_module(name)
    if new:
        gc.collect()
        gc.freeze()  # a collection in a worker would write into every page that they share
    return bool(new)


def _forks_draw_different_ids() -> bool:
    """Ray's library seeds its generator of ids at the first that it draws, once a process.

    Workers forked after that would send an actor several tasks of one id, and it dies of that.
    """
    return "ray" not in sys.modules or _id_in_a_fork() != _id_in_a_fork()


def _id_in_a_fork() -> bytes:
    readable, writable = os.pipe()
    if os.fork() == 0:
        os.write(writable, sys.modules["ray"].WorkerID.from_random().binary())
        os._exit(0)
    os.close(writable)
    with open(readable, "rb") as pipe:
        return pipe.read()


def become_worker(request: dict[str, Any]) -> None:
    """Go on as the interpreter would that Ray meant to start."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(request["descriptors"]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # or all workers draw the same; Python does this to its own
    sys.argv = request["arguments"]
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")


def prepare_environment() -> None:
    """Before anything is imported."""
    # Asked whether there is a GPU, torch is not to start CUDA: what is forked after that cannot use it.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    # OpenMP and OpenBLAS read it once, as they are loaded; Ray's value for a worker would come too late for them.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def run(descriptor: int) -> None:
    """Serve at a listening socket; in a worker, be that."""
    with socket.socket(fileno=descriptor) as listener:
        request = serve(listener)
    if request is not None:
        become_worker(request)


if __name__ == "__main__":
    prepare_environment()
    run(int(sys.argv[1]))
