"""A fork server that begins before its node: it imports what reads none of Ray's settings, and waits for the rest.

python early.py <descriptor of a listening Unix socket> <modules>

The first worker of the node that has the same environment, but for Ray's own variables, makes it the server. Until then
it ends when whoever started it has ended.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from quorate.deployments.fork_server.server import connections, prepare_environment, received, run

# Of the node's environment: where it listens. ``start_worker``, which imports nothing, has the name too.
VARIABLE = "QUORATE_EARLY_FORK_SERVER"
# What Ray sets for a worker, and a shell on the way to it; nothing but Ray reads it as it is imported.
_OF_RAY, _OF_THE_WAY = "RAY_", {"PYTHONBREAKPOINT", "SPT_NOENV", "PWD", "OLDPWD", "SHLVL", "_"}


@contextlib.contextmanager
def begun(folder: Path, modules: Sequence[str]) -> Iterator[None]:
    """Nodes that this process starts meanwhile find one that has begun to import.

    Args:
        folder: for its socket; its path must be short.
        modules: what may be imported before Ray's settings are known.
    """
    if not sys.platform.startswith("linux"):  # elsewhere nothing is forked
        yield
        return
    os.environ[VARIABLE] = str(folder / "early")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ[VARIABLE])
        listener.listen(8)
        process = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno()), ",".join(modules)], stdin=subprocess.DEVNULL,
            env=dict(os.environ),  # as Ray starts a node; libraries in C may have set more, readline does
            pass_fds=[listener.fileno()], start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        process.terminate()
        process.wait()


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Import, and be the server when a worker says for which environment."""
    starter, environment = os.pidfd_open(os.getppid()), dict(os.environ)
    prepare_environment()
    with socket.socket(fileno=descriptor) as listener:
        for name in modules:
            with contextlib.suppress(Exception):  # a worker will meet it again, and say so
                importlib.import_module(name)
        told = _wait(listener, starter, environment)
    os.close(starter)
    if told is not None:
        run(told)


def _wait(listener: socket.socket, starter: int, environment: Mapping[str, str]) -> int | None:
    """The socket to serve at; None when it is time to end."""
    for connection in connections(listener, starter):
        with connection, contextlib.suppress(OSError, ValueError):
            request = received(connection)
            if _imported_alike(environment, request["environment"]):
                connection.sendall(b"\1")
                os.environ.clear()
                os.environ.update(request["environment"])
                prepare_environment()
                told: int = request["descriptors"][0]
                return told
            os.close(request["descriptors"][0])
    return None


def _imported_alike(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether what was imported in one environment is as it would be in the other."""
    return all(
        one.get(name) == other.get(name)
        for name in {*one, *other} - _OF_THE_WAY
        if not name.startswith(_OF_RAY)
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2].split(","))
