"""A system under test: a tree of processes of its own that is started, paused, and whose processor time is known."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PEERS = Path(__file__).parent
RAY = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "RAY_prestart_worker_first_driver": "0"}
_SET_CHILD_SUBREAPER = 36  # of prctl


@dataclass(frozen=True)
class Peer:
    """How a system is started.

    Attributes:
        key: what it is called in files, ``name`` in tables.
        command: a script of this folder and its arguments.
        python: the interpreter; this one where it is empty.
        wire: that it is asked over where wires are not compared, the best that it has.
    """

    key: str
    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    python: str = ""
    wire: str = "json"

    def start(self, *more: str) -> System:
        """Start it and wait until it answers.

        Args:
            more: arguments, as ``child.asked`` reads them.
        """
        print(f"starting {self.name} ...", file=sys.stderr, flush=True)
        script, *arguments = self.command
        environment = dict(self.environment)
        process = subprocess.Popen(
            [self.python or sys.executable, str(PEERS / script), *arguments, *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=_adopt_orphans,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PEERS)} | environment,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"url"'):
                return System(self, process, json.loads(line), on_ray=RAY.items() <= environment.items())
        sys.exit(f"{self.name} did not start; its output is above")


@dataclass
class System:
    """One that runs.

    Attributes:
        details: what it said of itself: ``url``, and ``grpc`` (host:port) or ``raw`` (a URL for bare numbers).
    """

    peer: Peer
    process: subprocess.Popen[str]
    details: dict[str, Any]
    on_ray: bool

    @property
    def name(self) -> str:
        return self.peer.name

    @property
    def url(self) -> str:
        return str(self.details["url"])

    def has(self, wire: str) -> bool:
        """Whether it can be asked over it."""
        return "grpc" in self.details if wire == "grpc" else True

    def cpu_s(self) -> float:
        """Processor time that all of its processes that live have used."""
        used = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
        return used

    def pause(self) -> None:
        """The others idle for nothing, and Triton takes a paused model for a dead one."""
        if self.on_ray:
            for process in self._tree():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()

    def resume(self) -> None:
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def stop(self) -> None:
        """Have it end, and all that it started."""
        if self.process.poll() is not None:
            return
        self.resume()
        tree = self._tree()
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _, alive = psutil.wait_procs(tree, timeout=10)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def stop_all(systems: Sequence[System]) -> None:
    for system in systems:
        system.stop()


def _adopt_orphans() -> None:
    """Workers of Ray that are forked have no parent left: they become children of the system's first process."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
