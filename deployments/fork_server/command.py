"""What Ray is to start in place of Python, so that a worker is forked.

Threads of OpenMP and OpenBLAS number one in such a worker until it sets them: Ray's ``OMP_NUM_THREADS`` comes after
they are loaded.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_FORKS = sys.platform.startswith("linux")
_PROGRAM = Path(__file__).with_name("start_worker.py")
# Nodes that fork all their workers have it: nobody needs to ask for it there.
LABEL = {"quorate.io/workers": "forked"}
OF_EVERY_WORKER = ("torch", "pandas", "pyarrow", "fastapi", "jsonschema", "requests", "grpc", "ray")
# These bring another Python, or another way of starting it.
_OTHER_INTERPRETERS = {"py_executable", "pip", "conda", "uv", "image_uri", "container", "nsight", "rocprof_sys"}
# The interpreter that the raylet was told to start workers with: a node may have it elsewhere, or no Quorate.
_PYTHON_OF_THE_NODE = "tr '\\0' '\\n' </proc/$PPID/cmdline | sed -n 's/^--python_worker_command=\\([^ ]*\\).*/\\1/p'"


@contextlib.contextmanager
def nodes_that_fork(folder: Path, modules: Sequence[str]) -> Iterator[dict[str, str]]:
    """Nodes of Ray that this process starts meanwhile fork all their workers.

    Ray starts workers with the interpreter that started the node, and has no setting for another.

    Args:
        folder: for the program that they start; it must outlive the nodes.
        modules: what workers will import; those that are not there are passed over.

    Yields:
        Labels for those nodes: ``LABEL``, or none where processes cannot be forked.
    """
    if not _FORKS:
        yield {}
        return
    program, python = folder / "python", sys.executable
    program.write_text(f'#!/bin/sh\nexec {shlex.join(_command(modules))} "$@"\n')
    program.chmod(0o700)
    sys.executable = str(program.resolve())
    try:
        yield LABEL
    finally:
        sys.executable = python


def forking_runtime_env(modules: Sequence[str] = (), beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ray's runtime environment for workers that are forked; an empty one where that cannot be.

    Args:
        modules: what they will import; those that are not there are passed over.
        beside: the runtime environment that Ray will merge this with, of the job say.
    """
    if not _FORKS or _has_other_interpreter(beside or {}):
        return {}
    words = _command(modules)
    if any(character.isspace() for character in "".join(words)):
        return {}  # the shell below would take it for two words
    there = f"[ -x {sys.executable} ] && [ -f {_PROGRAM} ]"
    return {"py_executable": f"$(if {there}; then echo {' '.join(words)}; else {_PYTHON_OF_THE_NODE}; fi)"}


def _command(modules: Sequence[str]) -> list[str]:
    return [sys.executable, "-S", "-I", str(_PROGRAM), ",".join((*OF_EVERY_WORKER, *modules))]


def _has_other_interpreter(environment: Mapping[str, Any]) -> bool:
    """An actor that starts others has our own setting already."""
    return any(
        name in _OTHER_INTERPRETERS and not (name == "py_executable" and _PROGRAM.name in str(value))
        for name, value in environment.items()
    )
