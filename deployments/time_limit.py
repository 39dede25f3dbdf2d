"""Wait for something for so long, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    """What ``work`` returns, or raises; it is cancelled when it takes longer, or this is cancelled.

    As ``asyncio.wait_for``, which before Python 3.12 loses a cancellation that comes in the moment in which the work
    ends: whoever was to stop then goes on, and may wait for ever.

    Raises:
        asyncio.TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()
