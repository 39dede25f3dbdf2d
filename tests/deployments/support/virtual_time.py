"""An event loop on which time passes only when nothing else is to be done: hours of timers take moments."""

import asyncio
import selectors


class VirtualTime(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it. For code without sockets and threads."""

    def __init__(self):
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self):
        return self._clock.now


class _Clock(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0.0
        return super().select(0)


def run_virtually(scenario):
    """The result of a coroutine, given the loop that it runs on."""
    loop = VirtualTime()
    try:
        return loop.run_until_complete(scenario(loop))
    finally:
        loop.close()
