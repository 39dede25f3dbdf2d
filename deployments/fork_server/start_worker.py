"""Started by Ray in place of Python: has the node's fork server fork the worker, or else becomes the worker itself.

It runs without ``site`` and imports nothing but the standard library's small modules, since every worker pays for it.

    python -S -I start_worker.py torch,ray.serve  .../default_worker.py --node-ip-address=... --session-name=...
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import sys


def main() -> None:
    modules, arguments = sys.argv[1].split(","), sys.argv[2:]
    is_worker = "default_worker.py" in map(os.path.basename, arguments[:1])  # a node starts other programs too
    if not is_worker or not _forked(modules, arguments):
        os.execv(sys.executable, [sys.executable, *arguments])


def _forked(modules: list[str], arguments: list[str]) -> bool:
    """Whether a fork server has taken the worker over."""
    folder = _folder(arguments)
    if folder is None or "RAY_RAYLET_PID" not in os.environ:
        return False
    request: dict[str, object] = {
        "modules": modules,
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }
    try:
        with _connection(folder) as connection:
            return _taken(connection, request, [0, 1, 2])
    except OSError:
        return False


def _taken(connection: socket.socket, request: dict[str, object], descriptors: list[int]) -> bool:
    """Whether the other side takes a request and its descriptors."""
    body = json.dumps(request).encode()
    socket.send_fds(connection, [len(body).to_bytes(4, "big")], descriptors)
    connection.sendall(body)
    return connection.recv(1) == b"\1"


def _folder(arguments: list[str]) -> str | None:
    """Where this user's sockets of Ray's session are; nobody else can enter."""
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    session = os.path.join(options.get("--temp-dir", ""), options.get("--session-name", ""))
    if not ("--temp-dir" in options and "--session-name" in options and os.path.isdir(session)):
        return None
    folder = os.path.join(session, "quorate")
    os.makedirs(folder, 0o700, exist_ok=True)
    return folder


def _connection(folder: str) -> socket.socket:
    """To the server of this environment, which is started if there is none."""
    same = sorted((name, value) for name, value in os.environ.items() if name != "RAY_JOB_ID")
    path = os.path.join(folder, "fork-" + hashlib.sha256(repr(same).encode()).hexdigest()[:12])
    try:
        return _connected(path)
    except OSError:
        pass
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several start at once
        try:
            return _connected(path)
        except OSError:
            _start_server(path)
        return _connected(path)


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _start_server(path: str) -> None:
    """It listens from now on; whoever connects waits until it has imported what is asked for."""
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    if not _begun_early(listener) and os.fork() == 0:
        os.setsid()
        listener.set_inheritable(True)
        server = os.path.join(os.path.dirname(os.path.abspath(__file__)), "server.py")
        os.execv(sys.executable, [sys.executable, server, str(listener.fileno())])
    listener.close()


def _begun_early(listener: socket.socket) -> bool:
    """Whether a process that the node's host has started before it is the server from now on; see ``early``."""
    path = os.environ.get("QUORATE_EARLY_FORK_SERVER")
    try:
        with _connected(path or "") as connection:
            return _taken(connection, {"environment": dict(os.environ)}, [listener.fileno()])
    except OSError:
        return False


if __name__ == "__main__":
    main()
