"""What Ray is to start in place of Python, so that a worker is forked."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PROGRAM = "start_worker.py"
# What a worker of any kind imports before it has heard what it is to do.
_OF_EVERY_WORKER = ("torch", "ray.serve._private.replica")
# These bring another Python, or another way of starting it.
_OTHER_INTERPRETERS = {"py_executable", "pip", "conda", "uv", "image_uri", "container", "nsight", "rocprof_sys"}
# The interpreter that the raylet was told to start workers with: a node may have it elsewhere, or no Quorate.
_PYTHON_OF_THE_NODE = "tr '\\0' '\\n' </proc/$PPID/cmdline | sed -n 's/^--python_worker_command=\\([^ ]*\\).*/\\1/p'"


def forked(modules: Sequence[str] = (), beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ray's runtime environment for workers that are forked; an empty one where that cannot be.

    Threads of OpenMP and OpenBLAS number one in such a worker until it sets them: Ray's ``OMP_NUM_THREADS`` comes after
    they are loaded.

    Args:
        modules: what they will import; those that are not there are passed over.
        beside: the runtime environment that Ray will merge this with, of the job say.
    """
    program = Path(__file__).with_name(_PROGRAM)
    if not sys.platform.startswith("linux") or _has_other_interpreter(beside or {}):
        return {}
    if any(character.isspace() for character in f"{sys.executable}{program}"):
        return {}  # the shell below would take it for two words
    names = ",".join((*_OF_EVERY_WORKER, *modules))
    start = f"{sys.executable} -S -I {program} {names}"
    there = f"[ -x {sys.executable} ] && [ -f {program} ]"
    return {"py_executable": f"$(if {there}; then echo {start}; else {_PYTHON_OF_THE_NODE}; fi)"}


def _has_other_interpreter(environment: Mapping[str, Any]) -> bool:
    """An actor that starts others has our own setting already."""
    return any(
        name in _OTHER_INTERPRETERS and not (name == "py_executable" and _PROGRAM in str(value))
        for name, value in environment.items()
    )
