"""Work for clients that hang up is dropped. Most answers are out before one need look whether the client is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from quorate.deployments.wire.byte_stream import Receive

T = TypeVar("T")

# A request that has lasted for one to two of these is watched.
LOOK_S = 0.01


class DisconnectWatcher:
    """Watches the clients of one door; one timer for all requests, since one for each costs more than its answer."""

    def __init__(self) -> None:
        self._new: dict[asyncio.Task[object], Receive] = {}
        self._lasting: dict[asyncio.Task[object], Receive] = {}
        self._watchers: dict[asyncio.Task[object], asyncio.Task[None]] = {}
        self._looks = False

    async def work_for(self, receive: Receive, work: Awaitable[T]) -> T:
        """Await ``work``; this task is cancelled when the client hangs up."""
        task = asyncio.current_task()
        assert task is not None
        self._new[task] = receive
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)
        try:
            return await work
        finally:
            if self._new.pop(task, None) is None and self._lasting.pop(task, None) is None:
                self._watchers.pop(task).cancel()

    def _look(self) -> None:
        for task, receive in self._lasting.items():
            self._watchers[task] = asyncio.ensure_future(_cancel_when_gone(task, receive))
        self._lasting, self._new = self._new, {}
        self._looks = bool(self._lasting)
        if self._looks:
            asyncio.get_running_loop().call_later(LOOK_S, self._look)


async def _cancel_when_gone(task: asyncio.Task[object], receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
