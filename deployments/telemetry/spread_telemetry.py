"""What a fusion replica traces and logs, and has the replicas of its members trace and log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from quorate.deployments.telemetry.settings import LogSettings, Telemetry
from quorate.deployments.telemetry.tracer import Tracer


class Told(Protocol):
    """A replica of a member."""

    def tell(self, telemetry: bytes) -> None:
        """Have it trace and log so; see ``telemetry.settings``."""


class SpreadTelemetry:
    """Settings of one event loop, and of all replicas that it is connected to.

    Attributes:
        tracer: which requests are traced.
        on_logs: told how lines are to be written.
    """

    def __init__(self, tracer: Tracer, replicas: Callable[[], Iterable[Told]]):
        """Args:
        replicas: those that are connected now.
        """
        self.tracer, self._replicas = tracer, replicas
        self.on_logs: Callable[[LogSettings], None] = lambda settings: None
        self._told = b""

    async def use(self, settings: Telemetry) -> None:
        """Trace and log so from now on, and have the members do so.

        Raises:
            MissingExtraError: traces are to be recorded, and what records them is not installed; nothing has changed.
        """
        await asyncio.to_thread(self.tracer.use, settings)
        self._spread(settings)

    async def adopt(self, settings: Telemetry) -> None:
        """The same of settings that hold at other doors already: what can be done here is done."""
        await asyncio.to_thread(self.tracer.adopt, settings)
        self._spread(settings)

    def greet(self, replica: Told) -> None:
        """One has just been connected to."""
        if self._told:
            replica.tell(self._told)

    def _spread(self, settings: Telemetry) -> None:
        self.on_logs(settings.logs)
        self._told = settings.to_json()
        for replica in self._replicas():
            replica.tell(self._told)
