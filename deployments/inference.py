"""A member replica's inference thread: it drains the queue, runs it as one batch, answers rows to whom they belong.

There is no waiting timer: while the device is busy the queue grows, and the next batch takes all of it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import zmq
from numpy.typing import NDArray

from quorate.deployments.framing import FramingError, Kind, Message, pack, pack_failure, unpack
from quorate.deployments.prediction import Predictor, join

Array = NDArray[Any]

POLL_MS = 100
# After telling everyone that we leave, how long no call may arrive before we believe that all have heard.
QUIET_S = 0.2


@dataclass
class _Call:
    socket: zmq.Socket[bytes]
    peer: bytes
    call_id: int
    kind: Kind
    tensors: tuple[Array, ...]
    expires: float
    cancelled: bool = False

    @property
    def rows(self) -> int:
        return len(self.tensors[0])

    def joins(self, other: _Call) -> bool:
        """Whether both can be one batch: the same question about rows of the same shape and type."""
        return self.kind == other.kind and all(
            a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in zip(self.tensors, other.tensors, strict=True)
        )


class InferenceLoop(threading.Thread):
    """Owns the sockets and the model; everything a replica does for requests happens on this thread.

    Attributes:
        queued_rows: rows waiting now.
        busy_s: seconds spent in forward passes so far.
    """

    def __init__(
        self,
        predictor: Predictor,
        input_names: Sequence[str],
        max_batch_size: int,
        sockets: Sequence[Any],
        num_threads: int = 1,
    ):
        super().__init__(name=f"inference-{predictor.model.name}", daemon=True)
        self._predictor, self._input_names, self._max_batch_size = predictor, tuple(input_names), max_batch_size
        self._num_threads = num_threads
        self._sockets: list[zmq.Socket[bytes]] = list(sockets)
        self._queue: deque[_Call] = deque()
        self._waiting: dict[tuple[bytes, int], _Call] = {}
        self._peers: dict[bytes, zmq.Socket[bytes]] = {}
        self._leave = threading.Event()
        self._running_since: float | None = None
        self.queued_rows = 0
        self.busy_s = 0.0

    def stalled_s(self) -> float:
        """Seconds that the forward pass under way has been running; 0 between batches."""
        since = self._running_since
        return 0.0 if since is None else time.monotonic() - since

    def drain(self, timeout_s: float) -> None:
        """Tell every fusion replica to send no more, finish what is queued, and end the thread."""
        self._leave.set()
        self.join(timeout_s)

    def run(self) -> None:
        # OpenMP keeps its number of threads per calling thread: set anywhere else, a batch of 64 rows through a small
        # layer took 20 ms instead of 0.1 on two busy cores, its threads waiting for each other.
        torch.set_num_threads(self._num_threads)
        try:
            self._serve()
        finally:
            for socket in self._sockets:  # also when the model ends the thread: the peers learn of it at once
                socket.close(linger=500)

    def _serve(self) -> None:
        poller = zmq.Poller()
        for socket in self._sockets:
            poller.register(socket, zmq.POLLIN)
        quiet_since: float | None = None
        while True:
            ready = poller.poll(0 if self._queue else POLL_MS)
            for socket, _ in ready:
                self._receive(socket)
            if self._leave.is_set():
                now = time.monotonic()
                if quiet_since is None:
                    self._say_leaving()
                if quiet_since is None or ready:
                    quiet_since = now
                if not self._queue and now - quiet_since > QUIET_S:
                    return
            self._run_batch()

    def _receive(self, socket: zmq.Socket[bytes]) -> None:
        while True:
            try:
                peer, *frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = unpack(frames)
            except FramingError:
                continue  # not one of our peers: nothing to answer to
            self._peers[peer] = socket
            self._take(socket, peer, message)

    def _take(self, socket: zmq.Socket[bytes], peer: bytes, message: Message) -> None:
        if message.kind == Kind.HELLO:
            kind = Kind.LEAVING if self._leave.is_set() else Kind.WELCOME
            socket.send_multipart([peer, *pack(kind)])
        elif message.kind == Kind.CANCEL:
            call = self._waiting.get((peer, message.call_id))
            if call is not None:
                call.cancelled = True
        elif message.kind in (Kind.CALL, Kind.CALL_PROBABILITIES):
            found = _unfit(message.tensors, len(self._input_names))
            if found:
                socket.send_multipart([peer, *pack_failure(message.call_id, found)])
                return
            expires = time.monotonic() + message.number
            call = _Call(socket, peer, message.call_id, message.kind, message.tensors, expires)
            self._queue.append(call)
            self._waiting[peer, call.call_id] = call
            self.queued_rows += call.rows

    def _say_leaving(self) -> None:
        for peer, socket in self._peers.items():
            socket.send_multipart([peer, *pack(Kind.LEAVING)])

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
            self._waiting.pop((call.peer, call.call_id), None)
            self.queued_rows -= call.rows
            if not dropped:
                batch.append(call)
                rows += call.rows
        return batch

    def _run_batch(self) -> None:
        batch = self._next_batch()
        if not batch:
            return
        started = self._running_since = time.monotonic()
        columns = [np.concatenate(c) if len(c) > 1 else c[0] for c in zip(*(c.tensors for c in batch), strict=True)]
        values, status = self._in_chunks(dict(zip(self._input_names, columns, strict=True)), batch[0].kind)
        elapsed = time.monotonic() - started
        self.busy_s += elapsed
        self._running_since = None
        at = 0
        for call in batch:
            rows = slice(at, at + call.rows)
            frames = pack(Kind.ANSWER, call.call_id, elapsed, (values[rows], status[rows]))
            call.socket.send_multipart([call.peer, *frames], copy=False)
            at += call.rows

    def _in_chunks(self, inputs: dict[str, Array], kind: Kind) -> tuple[Array, NDArray[np.uint8]]:
        """A single call may hold more rows than the model takes at once."""
        rows = len(next(iter(inputs.values())))
        probabilities = kind == Kind.CALL_PROBABILITIES
        if rows <= self._max_batch_size:
            return self._predictor.run(inputs, probabilities)
        parts = [
            self._predictor.run({n: a[at : at + self._max_batch_size] for n, a in inputs.items()}, probabilities)
            for at in range(0, rows, self._max_batch_size)
        ]
        return join(parts)


def _unfit(tensors: Sequence[Array], wanted: int) -> str:
    """What makes these tensors no call for a model of ``wanted`` inputs; empty when nothing does."""
    if len(tensors) != wanted:
        return f"{len(tensors)} tensors for {wanted} inputs"
    if any(t.ndim == 0 for t in tensors) or len({len(t) for t in tensors}) != 1 or not len(tensors[0]):
        return f"tensors of shapes {[list(t.shape) for t in tensors]}, which are not one row each per row"
    return ""
