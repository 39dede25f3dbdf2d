"""Work too long for the event loop, a few pieces at once: who asks for more waits, and everybody else is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

WORKERS = 2
# Bytes that are read, written or looked at sooner than another thread is woken.
INLINE_BYTES = 1 << 20


class HeavyWork:
    """The threads of one server; torch's and NumPy's own settings of threads are those of a thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="heavy")

    async def run(self, size: int, work: Callable[[], T], inline_bytes: int = INLINE_BYTES) -> T:
        """Do it here where it is about little, else on a thread.

        Args:
            size: bytes that the work is about.
        """
        if size <= inline_bytes:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Let go of the threads; what has not begun never does."""
        self._pool.shutdown(wait=False, cancel_futures=True)
