"""A member replica's inference thread: it drains the queue, runs it as one batch, answers rows to whom they belong.

There is no waiting timer: while the device is busy the queue grows, and the next batch takes all of it. A model that
only waits for another server has several batches under way, each on a thread of its own. Members that share the process
are run one after another, and who is late keeps no other's answer back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import uvloop
from numpy.typing import NDArray

from quorate.deployments.members.member_group import MemberGroup, Question
from quorate.deployments.transport.connection import Connection, Listener
from quorate.deployments.transport.member_call import Outcome
from quorate.deployments.transport.messages import (
    Frame,
    FramingError,
    Kind,
    Message,
    pack,
    pack_failure,
    pack_greeting,
    unpack,
)
from quorate.deployments.transport.version import VERSION, agreed, refusal

Array = NDArray[Any]
_log = logging.getLogger(__name__)

# Looking a name up in an enum takes Python 3.11 longer than comparing with it.
_CALLS = (Kind.CALL, Kind.CALL_PROBABILITIES, Kind.CALL_MEMBERS)
_PROBABILITIES, _ANSWER, _MEMBERS = Kind.CALL_PROBABILITIES, Kind.ANSWER, Kind.CALL_MEMBERS
# A batch of several members that has taken so long lets go what is answered before it goes on.
PAUSE_S = 0.001
# After telling everyone that we leave, how long no call may arrive before we believe that all have heard.
QUIET_S = 0.2


@dataclass(slots=True)
class _Call:
    """Rows for one or several members, each of whom answers by itself.

    Attributes:
        ids: of each member's call its number.
        asked: of each the member's place, and whether it is to give probabilities.
        contexts: whose rows they are, by number of the call.
        cancelled: numbers that nobody waits for any more.
    """

    connection: Connection
    ids: tuple[int, ...]
    asked: tuple[tuple[int, bool], ...]
    tensors: tuple[Array, ...]
    rows: int
    arrived: float
    expires: float
    contexts: dict[int, str]
    cancelled: set[int] = field(default_factory=set)

    def joins(self, other: _Call) -> bool:
        """Whether both can be one batch: the same question about rows of the same shape and type."""
        return self.asked == other.asked and all(
            a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in zip(self.tensors, other.tensors, strict=True)
        )


class InferenceLoop(threading.Thread):
    """Owns the connections and the model; everything a replica does for requests happens on this thread's event loop.

    Attributes:
        queued_rows: rows waiting now.
        busy_s: seconds spent in forward passes so far, of as many as may be under way at once.
    """

    def __init__(self, group: MemberGroup, listeners: Sequence[Listener]):
        super().__init__(name=f"inference-{'-'.join(group.names)}"[:60], daemon=True)
        self._group, self._listeners = group, tuple(listeners)
        self._max_batch_size = max(one.max_batch_size for one in group.members)
        self._contexts: dict[Connection, dict[int, str]] = {}  # of calls that come next, by their numbers
        self._queue: deque[_Call] = deque()
        self._waiting: dict[tuple[Connection, int], _Call] = {}
        self._connections: set[Connection] = set()
        self._loop = uvloop.new_event_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._leaving = False
        self._batch_due = False
        self._heard_at = 0.0
        self._at_once = max(one.model.at_once for one in group.members)
        self._pool = ThreadPoolExecutor(self._at_once, "waiting") if self._at_once > 1 else None
        self._running: dict[int, float] = {}  # since when, by the number of each batch under way
        self._batches = 0
        self.queued_rows = 0
        self.busy_s = 0.0

    def stalled_s(self) -> float:
        """Seconds that the longest forward pass under way has been running, of ``MemberGroup.running`` where there are
        several members; 0 between batches.
        """
        since = min(list(self._running.values()), default=None)
        return 0.0 if since is None else time.monotonic() - since

    def drain(self, timeout_s: float) -> None:
        """Tell every fusion replica to send no more, finish what is queued, and end the thread."""
        with contextlib.suppress(RuntimeError):  # the thread has ended by itself
            self._loop.call_soon_threadsafe(self._leave)
        self.join(timeout_s)

    def run(self) -> None:
        # Once for all batches: to enter the mode takes a tenth of the time of a small model.
        with contextlib.closing(self._loop), torch.inference_mode():
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        for listener in self._listeners:
            await listener.open(self._read, self._lose)
        try:
            await self._ended
        finally:  # also when the model ends the thread: the peers learn of it at once
            for listener in self._listeners:
                await listener.close()
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, connection: Connection, frames: list[Frame]) -> None:
        try:
            message = unpack(frames)
        except FramingError:
            return  # no call can be read from it, so there is none to answer
        self._heard_at = time.monotonic()
        if message.kind in _CALLS:
            self._queue_call(connection, message)
        elif message.kind == Kind.HELLO:
            self._greet(connection, message)
        elif message.kind == Kind.UNKNOWN:
            connection.send(pack_failure(message.call_id, _unknown(message)))
        elif message.kind == Kind.CANCEL:
            call = self._waiting.get((connection, message.call_id))
            if call is not None:
                call.cancelled.add(message.call_id)
        elif message.kind == Kind.CONTEXT:
            self._contexts.setdefault(connection, {})[message.call_id] = message.text
        elif message.kind == Kind.TELEMETRY:
            self._group.use_telemetry(message.text)

    def _greet(self, connection: Connection, hello: Message) -> None:
        if not agreed(hello.number, hello.call_id):
            refused = refusal(hello.number, hello.call_id)
            _log.error("a fusion replica is not answered: %s", refused)
            connection.send(pack_failure(0, refused))
            return
        self._connections.add(connection)
        connection.send(pack(Kind.LEAVING) if self._leaving else pack_greeting(Kind.WELCOME))

    def _queue_call(self, connection: Connection, message: Message) -> None:
        contexts = self._contexts.pop(connection, {}) if self._contexts else {}
        tensors, arrived = message.tensors, self._heard_at
        ids: tuple[int, ...] = (message.call_id,)
        asked: tuple[tuple[int, bool], ...] = ((0, message.kind == _PROBABILITIES),)
        if message.kind == _MEMBERS:
            ids, asked = _read_members(message)
            tensors = tensors[1:]
        found = self._unfit(asked, tensors)
        if found:
            for call_id in ids or (message.call_id,):
                connection.send(pack_failure(call_id, found))
            return
        call = _Call(
            connection, ids, asked, tensors, len(tensors[0]), arrived, arrived + message.number, contexts
        )  # fmt: skip
        self._queue.append(call)
        for call_id in ids:
            self._waiting[connection, call_id] = call
        self.queued_rows += call.rows
        self._schedule()

    def _unfit(self, asked: tuple[tuple[int, bool], ...], tensors: Sequence[Array]) -> str:
        """What makes these tensors no call for these members; empty when nothing does."""
        members = self._group.members
        if not asked or any(not 0 <= place < len(members) for place, _ in asked) or len(dict(asked)) < len(asked):
            return f"calls for members {[place for place, _ in asked]} of {len(members)}"
        return next(filter(None, (_unfit(tensors, len(members[place].inputs)) for place, _ in asked)), "")

    def _lose(self, connection: Connection) -> None:
        """A fusion replica is gone: nobody waits for what it asked."""
        self._connections.discard(connection)
        self._contexts.pop(connection, None)
        for call in self._queue:
            if call.connection == connection:
                call.cancelled.update(call.ids)

    def _leave(self) -> None:
        self._leaving = True
        for connection in self._connections:
            connection.send(pack(Kind.LEAVING))
        self._heard_at = time.monotonic()
        self._leave_when_quiet()

    def _leave_when_quiet(self) -> None:
        if self._queue or self._running or time.monotonic() - self._heard_at < QUIET_S:
            self._loop.call_later(QUIET_S / 4, self._leave_when_quiet)
        elif not self._ended.done():
            self._ended.set_result(None)

    def _schedule(self) -> None:
        """Run a batch once everything that has arrived by now has been read."""
        if not self._batch_due and self._queue and len(self._running) < self._at_once:
            self._batch_due = True
            self._loop.call_soon(self._run_next)

    def _run_next(self) -> None:
        self._batch_due = False
        batch = self._next_batch()
        if batch:
            self._batches += 1
            self._running[self._batches] = time.monotonic()
            self._start(batch, self._batches)
        self._schedule()

    def _start(self, batch: list[_Call], number: int) -> None:
        if self._pool is not None:
            work = asyncio.wrap_future(self._pool.submit(lambda: list(self._outcomes(batch))), loop=self._loop)
            work.add_done_callback(lambda done: self._go_on(batch, number, _of_result(done.result)))
        else:
            self._go_on(batch, number, self._outcomes(batch))

    def _next_batch(self) -> list[_Call]:
        """The oldest calls that fit together, without those nobody waits for any more."""
        batch: list[_Call] = []
        rows = 0
        now = time.monotonic()
        while self._queue:
            call = self._queue[0]
            dropped = len(call.cancelled) == len(call.ids) or not call.expires >= now
            if not dropped and batch and (rows + call.rows > self._max_batch_size or not call.joins(batch[0])):
                break
            self._queue.popleft()
            for call_id in call.ids:
                self._waiting.pop((call.connection, call_id), None)
            self.queued_rows -= call.rows
            if not dropped:
                batch.append(call)
                rows += call.rows
        return batch

    def _outcomes(self, batch: list[_Call]) -> Iterator[Outcome]:
        """What each member gives to the whole batch."""
        columns: Sequence[Array] = batch[0].tensors
        if len(batch) > 1:
            columns = [np.concatenate(parts) for parts in zip(*[call.tensors for call in batch], strict=True)]
        expires, waited_s = max([call.expires for call in batch]), time.monotonic() - min([c.arrived for c in batch])
        asked = batch[0].asked
        questions = []
        for at, (place, probabilities) in enumerate(asked):
            contexts = [call.contexts[call.ids[at]] for call in batch if call.ids[at] in call.contexts]
            question = Question(place, columns, probabilities, expires, contexts, waited_s, shared=len(asked) > 1)
            questions.append(question)
        return self._group.run(questions)

    def _go_on(self, batch: list[_Call], number: int, outcomes: Iterator[Outcome]) -> None:
        """Answer with what there is; what takes longer first lets go what is answered."""
        began = time.monotonic()
        try:
            for outcome in outcomes:
                self._answer(batch, outcome)
                now = self._running[number] = time.monotonic()
                if now - began > PAUSE_S and len(batch[0].ids) > 1:
                    self._loop.call_soon(self._go_on, batch, number, outcomes)
                    return
        except BaseException as error:  # a model may end the thread; Serve then replaces the replica
            if not self._ended.done():
                self._ended.set_exception(error)
            return
        del self._running[number]
        self._schedule()

    def _answer(self, batch: Sequence[_Call], outcome: Outcome) -> None:
        """Send one member's answer to every call of a batch."""
        self.busy_s += outcome.seconds / self._at_once
        at = 0
        for call in batch:
            rows, call_id = slice(at, at + call.rows), call.ids[outcome.question]
            if outcome.values is None:
                call.connection.send(pack_failure(call_id, outcome.refusal))
            else:
                parts = (outcome.values[rows], outcome.status[rows])
                call.connection.send(pack(_ANSWER, call_id, outcome.seconds, parts))
            at += call.rows


def _of_result(result: Callable[[], list[Outcome]]) -> Iterator[Outcome]:
    """What another thread has computed, or the error that it ended with."""
    yield from result()


def _read_members(message: Message) -> tuple[tuple[int, ...], tuple[tuple[int, bool], ...]]:
    """Numbers of the calls that ``pack_for_members`` was given, and of each the member and whether in probabilities."""
    found = message.tensors[0] if message.tensors else np.empty((0, 3), np.int64)
    table = found.tolist() if found.dtype == np.int64 and found.ndim == 2 and found.shape[1] == 3 else []
    ids = tuple(call_id for call_id, _, _ in table)
    return ids, tuple((place, kind == _PROBABILITIES) for _, place, kind in table)


def _unknown(message: Message) -> str:
    """What a later version of the wire is told that asks in a way of its own."""
    return f"version {VERSION} of Quorate's wire has no message of kind {message.text}; upgrade Quorate on this node"


def _unfit(tensors: Sequence[Array], wanted: int) -> str:
    """What makes these tensors no call for a model of ``wanted`` inputs; empty when nothing does."""
    if len(tensors) != wanted:
        return f"{len(tensors)} tensors for {wanted} inputs"
    rows = tensors[0].shape[:1]
    if rows in ((), (0,)) or (wanted > 1 and any(t.shape[:1] != rows for t in tensors)):
        return f"tensors of shapes {[list(t.shape) for t in tensors]}, which are not one row each per row"
    return ""
