"""Operators of the cluster: drivers on its nodes that do what they are told, see ``driver``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.three_nodes.machine import Machine


class CommandError(Exception):
    """What a driver's command raised.

    Attributes:
        kind: the name of its class.
    """

    def __init__(self, kind: str, text: str):
        super().__init__(kind, text)
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class Driver:
    """A process on a node, connected to Ray.

    Attributes:
        pid: by the machine's own number.
    """

    def __init__(self, machine: Machine, address: str, env: Mapping[str, str], log: Path):
        self.machine, self._log = machine, log
        self._process = machine.python("tests.cluster.three_nodes.driver", address, env=env, log=log)
        try:
            self.pid = self._reply()
        except BaseException:
            self.stop()
            raise

    def send(self, command: str, **arguments: Any) -> None:
        """Begin a command; ``reply`` says how it ended."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([command, arguments]) + "\n")

    def reply(self) -> Any:
        """What the command returned.

        Raises:
            CommandError: what it raised.
        """
        return self._reply()

    def do(self, command: str, **arguments: Any) -> Any:
        """Both."""
        self.send(command, **arguments)
        return self.reply()

    def stop(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def kill(self) -> None:
        """As when its machine dies."""
        self.machine.signal(self.pid)
        self._process.communicate()

    def _reply(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"the driver on {self.machine.name} has ended: {self._log.read_text()[-2000:]}"
        how, what = json.loads(line)
        if how == "raised":
            raise CommandError(*what)
        return what
