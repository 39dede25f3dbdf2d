"""A member replica's inference thread: it drains the queue, runs it as one batch, answers rows to whom they belong.

There is no waiting timer: while the device is busy the queue grows, and the next batch takes all of it. A model that
only waits for another server has several batches under way, each on a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import uvloop
from numpy.typing import NDArray

from quorate.deployments.members.predictor import Predictor, join
from quorate.deployments.members.telemetry import MemberTelemetry
from quorate.deployments.sources.outputs import OutputError
from quorate.deployments.sources.remote.call_deadline import set_deadline
from quorate.deployments.transport.connection import Connection, Listener
from quorate.deployments.transport.messages import (
    Frame,
    FramingError,
    Kind,
    Message,
    max_answer_bytes,
    pack,
    pack_failure,
    pack_greeting,
    unpack,
)
from quorate.deployments.transport.version import VERSION, agreed, refusal

Array = NDArray[Any]
_log = logging.getLogger(__name__)

# Looking a name up in an enum takes Python 3.11 longer than comparing with it.
_CALLS, _PROBABILITIES, _ANSWER = (Kind.CALL, Kind.CALL_PROBABILITIES), Kind.CALL_PROBABILITIES, Kind.ANSWER
_NOBODY_KNOWN = contextlib.nullcontext()
# More than what stands around the values of an answer, its states included.
_FRAMING_BYTES = 1 << 20
# After telling everyone that we leave, how long no call may arrive before we believe that all have heard.
QUIET_S = 0.2


@dataclass(slots=True)
class _Call:
    connection: Connection
    call_id: int
    kind: Kind
    tensors: tuple[Array, ...]
    rows: int
    arrived: float
    expires: float
    context: str = ""
    cancelled: bool = False

    def joins(self, other: _Call) -> bool:
        """Whether both can be one batch: the same question about rows of the same shape and type."""
        return self.kind == other.kind and all(
            a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in zip(self.tensors, other.tensors, strict=True)
        )


class InferenceLoop(threading.Thread):
    """Owns the connections and the model; everything a replica does for requests happens on this thread's event loop.

    Attributes:
        queued_rows: rows waiting now.
        busy_s: seconds spent in forward passes so far, of as many as may be under way at once.
    """

    def __init__(
        self,
        predictor: Predictor,
        input_names: Sequence[str],
        max_batch_size: int,
        listeners: Sequence[Listener],
        num_threads: int = 1,
        telemetry: MemberTelemetry | None = None,
    ):
        super().__init__(name=f"inference-{predictor.model.name}", daemon=True)
        self._predictor, self._input_names, self._max_batch_size = predictor, tuple(input_names), max_batch_size
        self._num_threads = num_threads
        self._listeners = tuple(listeners)
        self._telemetry = telemetry or MemberTelemetry(predictor.model.name)
        self._contexts: dict[Connection, Message] = {}  # of the call that comes next
        self._queue: deque[_Call] = deque()
        self._waiting: dict[tuple[Connection, int], _Call] = {}
        self._connections: set[Connection] = set()
        self._loop = uvloop.new_event_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._leaving = False
        self._batch_due = False
        self._heard_at = 0.0
        self._at_once = predictor.model.at_once
        self._pool = ThreadPoolExecutor(self._at_once, "waiting") if self._at_once > 1 else None
        self._running: dict[int, float] = {}  # since when, by the number of each batch under way
        self._batches = 0
        self.queued_rows = 0
        self.busy_s = 0.0

    def stalled_s(self) -> float:
        """Seconds that the longest forward pass under way has been running; 0 between batches."""
        since = min(list(self._running.values()), default=None)
        return 0.0 if since is None else time.monotonic() - since

    def drain(self, timeout_s: float) -> None:
        """Tell every fusion replica to send no more, finish what is queued, and end the thread."""
        with contextlib.suppress(RuntimeError):  # the thread has ended by itself
            self._loop.call_soon_threadsafe(self._leave)
        self.join(timeout_s)

    def run(self) -> None:
        # OpenMP keeps its number of threads per calling thread: set anywhere else, a batch of 64 rows through a small
        # layer took 20 ms instead of 0.1 on two busy cores, its threads waiting for each other.
        torch.set_num_threads(self._num_threads)
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
                call.cancelled = True
        elif message.kind == Kind.CONTEXT:
            self._contexts[connection] = message
        elif message.kind == Kind.TELEMETRY:
            self._telemetry.use(message.text)

    def _greet(self, connection: Connection, hello: Message) -> None:
        if not agreed(hello.number, hello.call_id):
            refused = refusal(hello.number, hello.call_id)
            _log.error("a fusion replica is not answered: %s", refused)
            connection.send(pack_failure(0, refused))
            return
        self._connections.add(connection)
        connection.send(pack(Kind.LEAVING) if self._leaving else pack_greeting(Kind.WELCOME))

    def _queue_call(self, connection: Connection, message: Message) -> None:
        context = self._contexts.pop(connection, None) if self._contexts else None
        found = _unfit(message.tensors, len(self._input_names))
        if found:
            connection.send(pack_failure(message.call_id, found))
            return
        tensors, arrived = message.tensors, self._heard_at
        text = context.text if context is not None and context.call_id == message.call_id else ""
        call = _Call(
            connection, message.call_id, message.kind, tensors, len(tensors[0]), arrived, arrived + message.number, text
        )  # fmt: skip
        self._queue.append(call)
        self._waiting[connection, call.call_id] = call
        self.queued_rows += call.rows
        self._schedule()

    def _lose(self, connection: Connection) -> None:
        """A fusion replica is gone: nobody waits for what it asked."""
        self._connections.discard(connection)
        self._contexts.pop(connection, None)
        for call in self._queue:
            call.cancelled = call.cancelled or call.connection == connection

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
            work = asyncio.wrap_future(self._pool.submit(self._computed, batch), loop=self._loop)
            work.add_done_callback(lambda done: self._finish(batch, number, done.result))
        else:
            self._finish(batch, number, lambda: self._computed(batch))

    def _next_batch(self) -> list[_Call]:
        """The oldest calls that fit together, without those nobody waits for any more."""
        batch: list[_Call] = []
        rows = 0
        now = time.monotonic()
        while self._queue:
            call = self._queue[0]
            dropped = call.cancelled or not call.expires >= now
            if not dropped and batch and (rows + call.rows > self._max_batch_size or not call.joins(batch[0])):
                break
            self._queue.popleft()
            self._waiting.pop((call.connection, call.call_id), None)
            self.queued_rows -= call.rows
            if not dropped:
                batch.append(call)
                rows += call.rows
        return batch

    def _computed(self, batch: list[_Call]) -> tuple[Array, NDArray[np.uint8]]:
        columns: Sequence[Array] = batch[0].tensors
        if len(batch) > 1:
            columns = [np.concatenate(parts) for parts in zip(*[call.tensors for call in batch], strict=True)]
        set_deadline(max([call.expires for call in batch]))
        with self._traced(batch, time.monotonic()):
            return self._in_chunks(dict(zip(self._input_names, columns, strict=True)), batch[0].kind)

    def _finish(self, batch: list[_Call], number: int, result: Callable[[], tuple[Array, NDArray[np.uint8]]]) -> None:
        """Answer every call of a batch."""
        try:
            values, status = result()
        except BaseException as error:  # a model may end the thread; Serve then replaces the replica
            if not self._ended.done():
                self._ended.set_exception(error)
            return
        elapsed = time.monotonic() - self._running.pop(number)
        self.busy_s += elapsed / self._at_once
        at = 0
        for call in batch:
            rows = slice(at, at + call.rows)
            call.connection.send(self._answer(call, elapsed, values[rows], status[rows]))
            at += call.rows
        if self._pool is not None:
            self._schedule()

    def _traced(self, batch: Sequence[_Call], started: float) -> AbstractContextManager[None]:
        """A context for a forward pass: as long as it lasts it is known for whom."""
        contexts = [call.context for call in batch if call.context]
        if not contexts:
            return _NOBODY_KNOWN
        rows, waited_s = sum(call.rows for call in batch), started - min(call.arrived for call in batch)
        return self._telemetry.forward(contexts, rows, waited_s, str(self._predictor.model.device))

    def _answer(self, call: _Call, elapsed: float, values: Array, status: NDArray[np.uint8]) -> list[Frame]:
        limit = max_answer_bytes(call.rows) - _FRAMING_BYTES
        if values.nbytes <= limit:
            return pack(_ANSWER, call.call_id, elapsed, (values, status))
        found = f"the model's answer to {call.rows} rows has {values.nbytes} bytes; at most {limit} are sent"
        self._predictor.note(OutputError(found))
        return pack_failure(call.call_id, found)

    def _in_chunks(self, inputs: dict[str, Array], kind: Kind) -> tuple[Array, NDArray[np.uint8]]:
        """A single call may hold more rows than the model takes at once."""
        rows = len(next(iter(inputs.values())))
        probabilities = kind is _PROBABILITIES
        if rows <= self._max_batch_size:
            return self._predictor.run(inputs, probabilities)
        parts = [
            self._predictor.run({n: a[at : at + self._max_batch_size] for n, a in inputs.items()}, probabilities)
            for at in range(0, rows, self._max_batch_size)
        ]
        return join(parts)


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
