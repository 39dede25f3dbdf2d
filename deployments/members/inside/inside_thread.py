"""The thread of members that a fusion replica runs itself, and how its event loop hands rows over to it.

The event loop stands still while the thread computes: both need the interpreter, and two hand-overs are what it costs.
That is for passes shorter than a message takes to another process. One that takes longer is not waited for: the event
loop goes on, answers other requests, keeps deadlines, and takes what comes later when it comes. Passes that are short
and cannot be anything else are not handed over at all: see ``short_passes``.
"""

# B rows

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import torch

from quorate.deployments.members.inside.short_passes import ShortPasses
from quorate.deployments.members.member_group import MemberGroup, Question
from quorate.deployments.transport.member_call import MemberCall, Outcome
from quorate.deployments.transport.messages import Kind, Message

_log = logging.getLogger(__name__)
# The event loop waits for a batch so long, and not at all while an earlier one takes longer.
WAIT_S = 0.002
_PROBABILITIES = Kind.CALL_PROBABILITIES

# Called with what members gave; with None when the thread has ended, and nothing more will come.
Take = Callable[["Sequence[Message] | None"], None]


class _Batch:
    """Calls that were made at one time, and the answers that nobody has taken yet."""

    def __init__(self, calls: list[MemberCall], take: Take):
        self.calls, self.take = calls, take
        self.loop = asyncio.get_running_loop()
        self.answers: deque[Message] = deque()
        self.late = False
        self.done = threading.Lock()
        self.done.acquire()

    def deliver(self) -> None:
        """Hand on what is there, on the event loop."""
        found = []
        while self.answers:
            found.append(self.answers.popleft())
        if found:
            self.take(found)


class InsideThread(threading.Thread):
    """Runs the members of a group for the event loop of this process.

    Attributes:
        group: what it runs.
        busy_s: seconds spent in forward passes so far; ``beside_s`` of them on this thread, and not on the event loop.
        ended: whether it runs nothing any more.
    """

    def __init__(self, group: MemberGroup):
        super().__init__(name="inside", daemon=True)
        self.group = group
        self._short = ShortPasses(group.members)
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._asked = self._done = 0  # batches; each counted by one thread alone
        self._cancelled: set[int] = set()
        self._since: float | None = None
        self._listeners: dict[Take, asyncio.AbstractEventLoop] = {}
        self._inference = torch.inference_mode()
        self.busy_s = self.beside_s = 0.0
        self.ended = False

    def ask(self, calls: list[MemberCall], take: Take) -> None:
        """Run calls. ``take`` gets the answers, the first of them before this returns if that is soon."""
        outcomes = self.answer(calls)
        if outcomes is not None:
            take([outcome.message(calls[outcome.question].call_id) for outcome in outcomes])
            return
        batch = _Batch(calls, take)
        self._listeners.setdefault(take, batch.loop)
        idle, self._asked = self._asked == self._done, self._asked + 1
        self._batches.put(batch)
        if idle:
            batch.done.acquire(timeout=WAIT_S)
        batch.late = True  # before looking: what comes after this look is announced
        batch.deliver()

    def answer(self, calls: Sequence[MemberCall]) -> list[Outcome] | None:
        """Run calls on the event loop, where they are sure to be short; None where they are to be asked for.

        Nothing is under way then: the thread waits, and none but the event loop gives it anything to do.
        """
        if self._asked != self._done or not self._short.fit(calls):
            return None
        self._asked += 1
        began = self._since = time.monotonic()
        try:
            with self._inference:
                found = list(self.group.run(_questions(calls)))
        except BaseException:
            self._end()
            raise
        # In processor time this is less, where the machine has done something else: the thread will tell.
        seconds = time.monotonic() - began
        self.busy_s += seconds
        self._finished(calls, seconds)
        return found

    def cancel(self, call_id: int) -> None:
        """Nobody waits for a call any more: it need not be run."""
        if self._asked != self._done:
            self._cancelled.add(call_id)

    def tell(self, telemetry: bytes) -> None:
        """Have the members trace and log by these settings."""
        self.group.use_telemetry(telemetry.decode())

    def stalled_s(self) -> float:
        """Seconds that the pass under way, of ``group.running``, has been running; 0 between passes."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def stop(self) -> None:
        """End when what was handed over is done."""
        self._batches.put(None)

    def run(self) -> None:
        try:
            with torch.inference_mode():  # once for all batches: to enter it takes a tenth of a small model's time
                while (batch := self._batches.get()) is not None:
                    self._run(batch)
        except BaseException:  # a model may end the thread; Serve then replaces the fusion replica
            _log.exception("member %s has ended the thread of all", self.group.names[self.group.running])
        finally:
            self._end()

    def _end(self) -> None:
        """Who waits learns at once that nothing more will come."""
        self.ended, self._since = True, None
        for take, loop in list(self._listeners.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(take, None)

    def _run(self, batch: _Batch) -> None:
        now, before = time.monotonic(), time.thread_time()
        calls = [call for call in batch.calls if call.expires >= now and call.call_id not in self._cancelled]
        self._since = now
        for outcome in self.group.run(_questions(calls)):
            batch.answers.append(outcome.message(calls[outcome.question].call_id))
            self.busy_s += outcome.seconds
            self.beside_s += outcome.seconds
            self._since = time.monotonic()
            if batch.late:
                batch.loop.call_soon_threadsafe(batch.deliver)
        self._finished(calls, time.thread_time() - before)
        batch.done.release()

    def _finished(self, calls: Sequence[MemberCall], seconds: float) -> None:
        self._since = None
        self._short.took(calls, seconds)
        self._done += 1
        if self._asked == self._done:
            self._cancelled.clear()


def _questions(calls: Sequence[MemberCall]) -> list[Question]:
    return [
        Question(
            call.member, call.payload.tensors, call.kind is _PROBABILITIES, call.expires,
            [call.context.decode()] if call.context else (), shared=True,
        )
        for call in calls
    ]  # fmt: skip
