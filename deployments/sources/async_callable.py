"""Models and factories that are ``async def``: they live on an event loop of their own, on a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from functools import cached_property, wraps
from typing import Any

import torch


def is_async(function: Any) -> bool:
    """Whether a call gives a coroutine; an object's ``__call__`` counts."""
    if inspect.isclass(function):
        return False
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class AsyncCalls:
    """Runs what is awaited, one call after the other; connections that a model opened stay on the same loop."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name=f"async-{self._name}", daemon=True).start()
        return loop

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """The result of a coroutine, or what it raises."""
        return asyncio.run_coroutine_threadsafe(_without_gradients(awaitable), self._loop).result()

    def blocking(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """The same function for callers that wait."""

        @wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            return self.run(function(*arguments, **named))

        return run


async def _without_gradients(awaitable: Awaitable[Any]) -> Any:
    with torch.inference_mode():  # the mode is a thread's own
        return await awaitable
