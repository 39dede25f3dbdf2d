"""A member of another environment, ``python: /env/bin/python``: a process of that interpreter runs its model."""

# B batch

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import IO, Any

import torch
from numpy.typing import NDArray

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.sources.content.row_errors import BadRowsError
from quorate.deployments.sources.interpreter.exchange import receive, send
from quorate.deployments.sources.model import Model
from quorate.deployments.sources.outputs import OutputError
from quorate.deployments.sources.request import LoadRequest

Array = NDArray[Any]
_CHILD = "from quorate.deployments.members.other_interpreter import main; main()"
_LAST_LINES = 3


def load(request: LoadRequest, device: torch.device | None) -> Model:
    """Start the interpreter, and have it load the model.

    Args:
        device: where the model is to run; what the interpreter finds when None.

    Raises:
        MemberLoadError: there is no such interpreter, it has no Quorate, or the model cannot be loaded there.
    """
    python = Path(request.spec.python or "")
    if not os.access(python, os.X_OK):
        fix = "give the absolute path of an interpreter that every node has, such as /env/bin/python"
        raise request.error(f"there is no interpreter {python} on this node", fix)
    process = _Process(python)
    plain = request.spec.model_copy(update={"python": None})
    asked = {
        "name": request.name, "folder": str(request.folder.absolute()), "spec": plain.model_dump_json(),
        "device": None if device is None else str(device), "threads": request.threads,
    }  # fmt: skip
    try:
        said, _ = process.ask(asked)
    except (EOFError, OSError):
        code, last = process.ended()
        fix = f"install there what the member needs: {python} -m pip install 'quorate[serve]', in the same version"
        raise request.error(f"{python} ended with code {code} before the model was loaded{last}", fix) from None
    if "refused" in said:
        process.close()
        raise MemberLoadError(request.name, *said["refused"])
    return _ModelElsewhere(request, process, said)


class _Process:
    """A process of another interpreter, which ends when this one does, or when nobody needs it."""

    def __init__(self, python: Path):
        near, far = Pipe()
        self._alive, their_alive = Pipe()
        fds = (far.fileno(), their_alive.fileno())
        self._process = subprocess.Popen(
            [str(python), "-I", "-u", "-c", _CHILD, *map(str, fds)], pass_fds=fds,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        far.close()
        their_alive.close()
        self._connection: Connection[Any, Any] = near
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._printing = threading.Thread(target=_print, args=(self._process.stdout, self._lines), daemon=True)
        self._printing.start()
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, _close, self._process, self._printing, near, self._alive)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, said: Mapping[str, Any], tensors: Mapping[str, Array] | None = None
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What it replies.

        Raises:
            EOFError, OSError: it has ended.
        """
        with self._lock:
            send(self._connection, said, tensors)
            return receive(self._connection)

    def ended(self) -> tuple[int, str]:
        """Its exit code, and the last lines that it printed, for a sentence."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._printing.join(1)
        last = " ".join(" ".join(self._lines).split())[-300:]
        self.close()
        return self._process.returncode, f", and said: {last}" if last else ""


def _print(stream: IO[str], lines: deque[str]) -> None:
    """Pass on what it prints: to this process's output, which the member's log has too."""
    with stream:
        for line in stream:
            lines.append(line)
            print(line, end="", flush=True)


def _close(process: subprocess.Popen[str], printing: threading.Thread, *connections: Connection[Any, Any]) -> None:
    for connection in connections:
        connection.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    process.kill()
    process.wait()
    printing.join(1)


class _ModelElsewhere(Model):
    """A model that another interpreter runs."""

    def __init__(self, request: LoadRequest, process: _Process, said: Mapping[str, Any]):
        self.name, self.device, self.at_once = request.name, torch.device(said["device"]), 1
        self.classes, self.content = _names(said["classes"]), said["content"]
        self.pid = process.pid
        self._spec, self._folder, self._function = request.spec, request.folder, _elsewhere
        self._process = process

    def predict(self, inputs: Mapping[str, Array]) -> Array:
        try:
            said, found = self._process.ask({}, inputs)
        except (EOFError, OSError):
            code, last = self._process.ended()
            raise SystemExit(f"{self._spec.python} ended with code {code}{last}") from None  # the replica with it
        if "kind" in said:
            raise _raised(said)
        self.classes = _names(said["classes"])
        return found["output"]


def _elsewhere(*_: Any) -> Any:
    raise AssertionError("what runs is in another interpreter")


def _names(found: list[str] | None) -> tuple[str, ...] | None:
    return None if found is None else tuple(found)


class _ElsewhereError(Exception):
    """The traceback of what was raised in the other interpreter.

    Attributes:
        own_lines: of the member's own code.
    """

    def __init__(self, whole: str, own_lines: str):
        super().__init__(f"\n{whole}")
        self.own_lines = own_lines


def _raised(said: Mapping[str, Any]) -> Exception:
    """What was raised there, of the same name and text."""
    if "rows" in said:
        return BadRowsError({int(row): str(text) for row, text in said["rows"]})
    if "output" in said:
        return OutputError(*said["output"])
    error: Exception = type(str(said["kind"]), (Exception,), {"__module__": "builtins"})(said["text"])
    error.__cause__ = _ElsewhereError(said["whole"], said["trace"])
    return error
