"""Shadow fusions in a fusion replica: rows are noted as they are answered, and fused again when the loop has time.

What is noted stands in blocks as of a record. They are fused on the event loop, in slices of about half a
millisecond, that take no more than a small share of its time and wait while requests do; what that is too little for
is dropped, block by block, and counted. No member is called.
"""

# M members, N nodes (members asked, too), R rows of a slice

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.requests.request import Request
from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.blocks import Block, BlockKind, OpenBlocks
from quorate.deployments.learning.shadows.comparison import Answered, Comparison
from quorate.deployments.learning.shadows.fitting import misfit, views_of
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.base import FusedArrays
from quorate.fusion.errors import QuorateError

Array = NDArray[Any]
_log = logging.getLogger(__name__)
# Of the event loop's time. A slice is as many rows as one shadow fuses in about so long, but at least so many numbers
# of members: what a call takes whatever it is given, half a millisecond where it falls out of the caches, is more.
SHARE, SLICE_S, SLICE_NUMBERS = 0.03, 0.0005, 1 << 14
# While requests wait for a batch, shadows wait so long and look again; after so many looks a slice is fused anyway.
BUSY_S, MOST_LOOKS = 0.002, 25
# Blocks that wait to be fused; beyond that rows are not even copied.
WAITING_BYTES = 2 << 20
_FIRST_ROWS = 16


@dataclass
class Shadow:
    """A shadow, and how it compares.

    Attributes:
        refused: why it is not computed; empty where it is.
        outputs: comparisons by output; the name is empty where there is one.
        slice_rows: that are fused at a time.
        warm: its outputs that have been fused before.
    """

    revision: Revision
    refused: str = ""
    outputs: dict[str, Comparison] = field(default_factory=dict)
    slice_rows: int = _FIRST_ROWS
    warm: set[str] = field(default_factory=set)


@dataclass
class _Work:
    """A block on its way through the shadows.

    Attributes:
        at: the row that is next, of the shadow that is the ``turn``-th.
    """

    block: Block
    output: str
    columns: Mapping[str, Array]
    starts: list[int]
    turn: int = 0
    at: int = 0


class ShadowFusions:
    """A ``Watcher`` that has shadows. All of it is called on the event loop."""

    def __init__(self, engine: Engine):
        self._engine, self._loop = engine, asyncio.get_running_loop()
        self._live = engine.revision
        self._views = views_of(self._live)
        self._shadows: dict[str, Shadow] = {}
        self._failed: dict[str, str] = {}
        self._blocks = OpenBlocks(self._hand_over)
        self._waiting: deque[_Work] = deque()
        self._waiting_bytes = self._calls = 0
        self._dropped_rows = self._looks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._warming: asyncio.Future[None] | None = None

    def use(self, revisions: Sequence[Revision], failed: Mapping[str, str] | None = None) -> None:
        """Have these shadows from now on; those that stay go on counting.

        Args:
            failed: by revision, why others cannot be built.
        """
        old, self._failed = self._shadows, dict(failed or {})
        self._shadows = {one.name: old.get(one.name) or self._shadow(one) for one in revisions}
        self._waiting.clear()
        self._blocks.clear()
        self._waiting_bytes = 0
        self._watch()

    def revisions(self) -> dict[str, Revision]:
        """Those that there are."""
        return {name: one.revision for name, one in self._shadows.items()}

    def tick(self) -> None:
        """Follow what is live, and fuse what there is: call this about twice a second."""
        if self._engine.revision is not self._live:
            self._live = self._engine.revision
            self._views = views_of(self._live)
            self._dropped_rows = 0
            self._shadows = {name: self._shadow(one.revision) for name, one in self._shadows.items()}
            self.use([one.revision for one in self._shadows.values()], self._failed)
        self._blocks.end_all()

    def close(self) -> None:
        """Note nothing more."""
        self.use([])
        if self._timer is not None:
            self._timer.cancel()

    def report(self) -> dict[str, Any]:
        """How shadows compare with the live revision since it is live, or they are there, in JSON's types."""
        found: dict[str, Any] = {}
        for name, shadow in self._shadows.items():
            outputs = {output: one.to_json() for output, one in shadow.outputs.items()}
            found[name] = {"refused": shadow.refused, "outputs": outputs}
        found |= {name: {"refused": why, "outputs": {}} for name, why in self._failed.items()}
        return {"live": self._live.name, "shadows": found, "dropped_rows": self._dropped_rows}

    def keep(
        self, revision: Revision, outputs: Array, states: Array, fused: FusedArrays,
        answered: Sequence[tuple[Request, int]], upstream: Mapping[str, MemberReply], start: int,
    ) -> None:  # fmt: skip
        """Note what was fused together, of the live revision; see ``Watcher``."""
        request, name = answered[0][0], revision.graph.output.name
        if self._views.get(name if revision.whole is not None else "") is not revision or request.members is not None:
            return
        signature = request.signature if self._reads_inputs else ()
        kind, rows = BlockKind.of(revision, outputs, states, fused, signature), outputs.shape[1]
        block = self._blocks.with_room(kind, rows)
        if block is None:
            if self._waiting_bytes > WAITING_BYTES:
                self._dropped_rows += rows
                return
            block = self._blocks.begin(kind, revision, rows)
        self._calls += 1
        block.add(self._calls, outputs, states, fused, answered, {}, start)

    def _shadow(self, revision: Revision) -> Shadow:
        same = "it is live" if revision.name == self._live.name else ""
        shadow = Shadow(revision, same or misfit(revision, self._live))
        if not shadow.refused:
            shadow.outputs = {name: Comparison() for name in self._views}
        return shadow

    def _watch(self) -> None:
        """Be told of answers where any shadow is computed."""
        self._computed = [one for one in self._shadows.values() if not one.refused]
        views = [view for one in self._computed for view in views_of(one.revision).values()]
        self._reads_inputs = any(view.graph.output.reads_inputs for view in views)
        self._engine.answers.watchers = (self,) if self._computed else ()

    def _hand_over(self, block: Block) -> None:
        columns, kind = {}, block.kind
        if kind.inputs:
            names = [name for name, _, _ in kind.inputs]
            columns = {name: np.concatenate([given[name] for given in block.inputs]) for name in names}
        starts = np.cumsum([0, *block.counts]).tolist()
        output = kind.output if block.revision.whole is not None else ""
        self._waiting.append(_Work(block, output, columns, starts))
        self._waiting_bytes += block.nbytes
        self._go_on()

    # -- fusing, when there is time

    def _step(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._looks = self._looks + 1 if self._engine.queued_rows else 0
        if 0 < self._looks <= MOST_LOOKS:
            self._timer = self._loop.call_later(BUSY_S, self._step)
            return
        self._looks, work = 0, self._waiting[0]
        shadow = self._computed[work.turn]
        if work.output not in shadow.warm:
            shadow.warm.add(work.output)
            self._warming = self._loop.run_in_executor(None, _warm_up, views_of(shadow.revision)[work.output], work)
            self._warming.add_done_callback(self._warmed)
            return
        began = time.thread_time()  # on a busy machine, not how long others were run meanwhile
        self._fuse_slice(work)
        self._go_on(after_s=(time.thread_time() - began) / SHARE)

    def _warmed(self, _: object) -> None:
        self._warming = None
        self._go_on()

    def _go_on(self, after_s: float = 0.0) -> None:
        if self._waiting and self._timer is None and self._warming is None:
            self._timer = self._loop.call_later(after_s, self._step)

    def _fuse_slice(self, work: _Work) -> None:
        """Some rows of the first block by one shadow."""
        shadow = self._computed[work.turn]
        view, compared = views_of(shadow.revision)[work.output], shadow.outputs[work.output]
        stop = self._slice_end(work, shadow, view)
        if work.at == 0:
            self._time_single(work, view, compared)
        began = time.thread_time()
        try:
            self._compare(work, view, compared, slice(work.at, stop))
        except QuorateError as error:
            compared.fail(stop - work.at, str(error))
        except Exception:
            _log.exception("a shadow could not be computed")
            compared.fail(stop - work.at, "it could not be computed; the log of the doors says why")
        took_s, rows = time.thread_time() - began, stop - work.at
        shadow.slice_rows = max(1, min(int(rows * SLICE_S / max(took_s, 1e-9)), 4 * shadow.slice_rows))
        work.at = stop
        if work.at >= work.block.rows:
            work.turn, work.at = work.turn + 1, 0
        if work.turn >= len(self._computed):
            self._waiting.popleft()
            self._waiting_bytes -= work.block.nbytes

    def _slice_end(self, work: _Work, shadow: Shadow, view: Revision) -> int:
        if view.graph.output.ranks_rows:  # the rows of an answer are one list
            return next(start for start in work.starts if start > work.at)
        least = SLICE_NUMBERS // max(work.block.outputs[:, 0].size, 1)
        return min(work.at + max(shadow.slice_rows, least), work.block.rows)

    def _compare(self, work: _Work, view: Revision, compared: Comparison, rows: slice) -> None:
        block, asked = work.block, len(work.block.revision.asked)
        coverage = block.coverage[rows]
        if block.revision.graph.upstream:  # that one counts what inner fusions were missing, too
            coverage = block.revision.fuse_again(*_read_by(block.revision, work, rows))[0].coverage
        live = Answered(block.values[rows], coverage, block.revision.enough(block.states[:asked, rows]))
        if block.abstained is not None:
            live.said = live.said & ~block.abstained[rows]
        began = time.thread_time()
        fused, enough = view.fuse_again(*_read_by(view, work, rows))
        compared.fused_s += time.thread_time() - began
        said = enough if fused.abstained is None else enough & ~fused.abstained
        compared.add(view.spec.inferred_task, live, Answered(fused.values, fused.coverage, said))

    def _time_single(self, work: _Work, view: Revision, compared: Comparison) -> None:
        """What one row alone takes each: how much later an answer would come."""
        given = [_read_by(one, work, slice(0, 1)) for one in (work.block.revision, view)]
        with contextlib.suppress(Exception):  # it is counted with the other rows
            began = time.thread_time()
            work.block.revision.fuse_again(*given[0])
            between = time.thread_time()
            view.fuse_again(*given[1])
            compared.single_s += time.thread_time() - between
            compared.single_live_s += between - began
            compared.singles += 1


def _warm_up(view: Revision, work: _Work) -> None:
    """Fuse some rows on a thread: what a rule does for the first time may take a tenth of a second."""
    outputs, states, columns = _read_by(view, work, slice(0, min(_FIRST_ROWS, work.block.rows)))
    with contextlib.suppress(Exception):  # it will fail again, and be counted
        view.fuse_again(outputs, np.zeros_like(states), columns)
        one_missing = np.zeros_like(states)
        one_missing[0, 0] = RowState.DEADLINE
        view.fuse_again(outputs, one_missing, columns)


def _read_by(view: Revision, work: _Work, rows: slice) -> tuple[Array, Array, dict[str, Array]]:
    """Outputs and states of the members that a revision asks, in its order, and the inputs."""
    block = work.block
    outputs, states = block.outputs[:, rows], block.states[: len(block.revision.asked), rows]
    if view.asked != block.revision.asked:
        places = [block.revision.asked.index(name) for name in view.asked]
        outputs, states = outputs[places], states[places]
    columns = {name: column[rows] for name, column in work.columns.items()}
    return np.ascontiguousarray(outputs), np.ascontiguousarray(states), columns
