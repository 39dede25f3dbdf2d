"""Requests that somebody waits for: from their arrival until they are told what became of them, once each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from quorate.deployments.engine.requests.deadlines import Deadlines
from quorate.deployments.engine.requests.request import Promise, Request, Tell, nobody
from quorate.deployments.errors import DeadlineError
from quorate.fusion.errors import QuorateError

_log = logging.getLogger(__name__)

# Whatever else fails, a request ends this long after its deadline.
LAST_RESORT_S = 1.0


B = TypeVar("B")
# Told of a request that has ended, with its result or its error.
Ended = Callable[[Request, Any, "BaseException | None"], None]


class OpenRequests(Generic[B]):
    """Make and use it on one event loop."""

    def __init__(self, on_ended: Ended, on_given_up: Callable[[Request], None]):
        """Args:
        on_ended: called before whoever waits is told.
        on_given_up: called with one that nothing has ended in time, before it is told so.
        """
        self._on_ended, self._on_given_up, self._loop = on_ended, on_given_up, asyncio.get_running_loop()
        self._open: dict[Request, B | None] = {}
        self._settled: list[Request] = []  # of these, those whose result is there
        self._held = False  # until ``tell``
        self._overdue: Deadlines[Request] = Deadlines(self._give_up)

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, request: Request) -> bool:
        return request in self._open

    def enter(self, request: Request) -> None:
        """One is here, and ends by a call of its ``tell``, whatever becomes of it, or by ``drop``."""
        request.promise = Promise(partial(self._ended, request))
        self._open[request] = None
        self._overdue.set(request, request.deadline + LAST_RESORT_S)

    def travel(self, requests: Iterable[Request], batch: B) -> None:
        """They are on their way together."""
        for request in requests:
            self._open[request] = batch

    def batch(self, request: Request) -> B | None:
        """That it is in; None where it has not left yet."""
        return self._open.get(request)

    def drop(self, request: Request) -> None:
        """Nobody is to be told."""
        request.promise.drop()
        self._leave(request)

    def hold(self) -> None:
        """Tell nobody before ``tell`` is called, in this turn of the event loop."""
        self._held = True

    def tell(self) -> None:
        """Tell who waits for what has ended since ``hold``."""
        self._held = False
        if self._settled:
            self._tell_settled()

    def close(self) -> None:
        """Nothing is overdue any more."""
        self._overdue.close()

    def _leave(self, request: Request) -> None:
        del self._open[request]
        self._overdue.drop(request)

    def _ended(self, request: Request) -> None:
        """There is a result or an error; who waits is told behind what goes on now, with all that end meanwhile."""
        if not self._settled and not self._held:
            self._loop.call_soon(self._tell_settled)
        self._settled.append(request)

    def _tell_settled(self) -> None:
        settled, self._settled = self._settled, []
        for request in settled:
            if request in self._open:  # else it has been dropped meanwhile
                self._leave(request)
                (result, error), tell, request.tell = request.promise.take(), request.tell, nobody
                try:  # whatever goes wrong with one, the others are told
                    try:
                        self._on_ended(request, result, error)
                    finally:
                        tell(result, error)
                except Exception:
                    _log.exception("a request has ended, and something went wrong with that")

    def _give_up(self, request: Request) -> None:
        """The last resort: nothing has ended a request that is long overdue."""
        if not request.promise.done():
            _log.error("a request had neither an answer nor an error %g s after its deadline", LAST_RESORT_S)
            fail(request, DeadlineError("an answer", "none in time"))
            self._on_given_up(request)


async def told(submit: Callable[[Tell], Request], abandon: Callable[[Request], None]) -> Any:
    """Wait for what becomes of a request.

    Args:
        submit: makes it.
        abandon: called when nobody waits for it any more.

    Raises:
        QuorateError: what it ended with.
    """
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    request = submit(partial(_settle, answer))
    try:
        return await answer
    except asyncio.CancelledError:
        abandon(request)
        raise
    finally:
        del answer, request  # an error keeps this frame: nothing of a ring would go before the next collection


def fail(request: Request, error: QuorateError) -> None:
    """End a request with an error, unless it has ended."""
    if not request.promise.done():
        request.promise.set_exception(error)


def _settle(waiting: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Tell a coroutine, unless it has been cancelled a moment ago."""
    if waiting.done():
        return
    if error is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(result)
