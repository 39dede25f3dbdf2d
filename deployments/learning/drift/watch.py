"""Watches for drift in a fusion replica: answers are noted on the event loop, and looked at by a thread of its own.

An answer in a hundredth of a second is looked at, however many there are; what the thread has no time for is left out,
and counted. No member is called.
"""

# M members, R rows

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.requests.request import Request
from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.blocks import Block, BlockKind, OpenBlocks
from quorate.deployments.learning.drift.watched_outputs import WatchedOutputs
from quorate.deployments.learning.shadows.fitting import views_of
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.spec.fields.drift import DriftSpec
from quorate.fusion.base import FusedArrays

Array = NDArray[Any]
_log = logging.getLogger(__name__)
# An answer at most in so long is looked at: at 50 to 170 us each a sixtieth of a core, whatever the rate.
EVERY_S = 0.01
# Blocks that wait; beyond that answers are not even copied.
WAITING_BYTES = 8 << 20
LOOK_S, STOP_TIMEOUT_S = 1.0, 5.0


class DriftWatch:
    """A ``Watcher``. What is not said otherwise is called on the event loop."""

    def __init__(self, engine: Engine, settings: DriftSpec):
        self._engine, self._alarms = engine, engine.metrics.drift_alarms
        self._follow(engine.revision)
        self._outputs = WatchedOutputs(engine.spec.name, engine.answers.replica, settings, self._alarms)
        self._next: dict[str, float] = {}  # by output
        self._turn = 0
        self._blocks = OpenBlocks(self._hand_over)
        self._queue: queue.SimpleQueue[Block | Revision | None] = queue.SimpleQueue()
        self._queued_bytes = self._taken_bytes = 0  # each is written by one thread alone
        self._queue.put(self._live)
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)
        self._thread.start()
        engine.answers.watch(self, True)

    def keep(
        self, revision: Revision, outputs: Array, states: Array, fused: FusedArrays,
        answered: Sequence[tuple[Request, int]], upstream: Mapping[str, MemberReply], start: int,
    ) -> None:  # fmt: skip
        """Note an answer of what was fused together, when one is due; see ``Watcher``."""
        now, name = time.monotonic(), revision.graph.output.name if revision.whole is not None else ""
        if now < self._next.get(name, 0.0):
            return
        if self._views.get(name) is not revision or answered[0][0].members is not None:
            return
        self._next[name] = now + EVERY_S
        self._turn += 1
        chosen = answered[self._turn % len(answered)]
        if self._queued_bytes - self._taken_bytes > WAITING_BYTES:
            self._alarms.looked("dropped", 1)
            return
        rows = slice(chosen[1], chosen[1] + chosen[0].rows)
        kind = BlockKind.of(revision, outputs, states, fused)
        block = self._blocks.with_room(kind, chosen[0].rows) or self._blocks.begin(kind, revision, chosen[0].rows)
        block.add(0, outputs[:, rows], states[:, rows], _cut(fused, rows), [(chosen[0], 0)], {}, start)

    def tick(self) -> None:
        """Follow what is live, and hand over what there is: call this about twice a second."""
        self._blocks.end_all()
        if self._engine.revision is not self._live:
            self._follow(self._engine.revision)
            self._queue.put(self._live)

    def close(self) -> None:
        """Look at nothing more; from any thread, when nothing is answered any more or ``leave`` was called."""
        self._queue.put(None)
        self._thread.join(STOP_TIMEOUT_S)

    def leave(self) -> None:
        """Be told of no more answers."""
        self._engine.answers.watch(self, False)
        self._alarms.watch([])

    def report(self) -> dict[str, Any]:
        """How outputs stand, as of a second ago at most, in JSON's types."""
        return self._outputs.told

    def _follow(self, revision: Revision) -> None:
        self._live, self._views = revision, views_of(revision)

    def _hand_over(self, block: Block) -> None:
        self._queued_bytes += block.nbytes
        self._queue.put(block)

    # -- on the thread

    def _run(self) -> None:
        while True:
            try:
                given = self._queue.get(timeout=LOOK_S)
            except queue.Empty:
                self._outputs.tick()
                continue
            if given is None:
                break
            try:
                if isinstance(given, Block):
                    self._taken_bytes += given.nbytes
                    self._outputs.see(given)
                else:
                    self._outputs.follow(given)
                self._outputs.tick()
            except Exception:  # whatever is wrong with some rows, others may come
                _log.exception("drift could not be looked for in some answers")
        self._outputs.close()


def _cut(fused: FusedArrays, rows: slice) -> FusedArrays:
    abstained = None if fused.abstained is None else fused.abstained[rows]
    return FusedArrays(fused.values[rows], np.empty((0, 0), np.float32), fused.coverage[rows], abstained)
