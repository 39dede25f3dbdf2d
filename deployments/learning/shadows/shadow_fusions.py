"""Shadow fusions in a fusion replica: rows are noted as they are answered, and fused again when the loop has time.

What is noted stands in blocks as of a record. They are fused on the event loop, in slices of about half a
millisecond, that take no more than a small share of its time and wait while requests do; what that is too little for
is dropped, block by block, and counted. No member is called, but for shadows that have members of their own
(``asking``): these are computed on a share of the requests, when their members have replied, and on nothing else.
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
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.engine import Engine
from quorate.deployments.engine.requests.request import Request
from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.blocks import Block, BlockKind, OpenBlocks
from quorate.deployments.learning.shadows.asking import Asked, Asking, Asks, Key
from quorate.deployments.learning.shadows.comparison import Answered, Comparison
from quorate.deployments.learning.shadows.fitting import misfit, views_of
from quorate.deployments.learning.shadows.judging import METRICS, LabelJudge, Said
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
        asks: the members of its own; None where it has none.
    """

    revision: Revision
    asks: Asks | None = None
    refused: str = ""
    outputs: dict[str, Comparison] = field(default_factory=dict)
    slice_rows: int = _FIRST_ROWS
    warm: set[str] = field(default_factory=set)


@dataclass
class _Work:
    """A block on its way through the shadows.

    Attributes:
        shadows: that are computed on it.
        own: members that were asked for these alone: their outputs stand behind the live ones', and so do their states.
        at: the row that is next, of the shadow that is the ``turn``-th.
        said: what each shadow says, slice by slice, where labels may come for it.
    """

    block: Block
    shadows: Sequence[Shadow]
    own: tuple[Key, ...]
    output: str
    columns: Mapping[str, Array]
    starts: list[int]
    turn: int = 0
    at: int = 0
    said: dict[str, list[Answered]] = field(default_factory=dict)

    def read_by(self, shadow: Shadow | None, rows: slice) -> tuple[Array, Array, dict[str, Array]]:
        """Outputs and states of the members that a shadow asks, or the live fusion, in its order, and the inputs."""
        block, asked = self.block, self.block.revision.asked
        outputs, states = block.outputs[:, rows], block.states[: len(asked), rows]
        if shadow is not None:
            view, apps = views_of(shadow.revision)[self.output], {} if shadow.asks is None else shadow.asks.apps
            places = [self._place(name, apps) for name in view.asked]
            if places != [(at, at) for at in range(len(asked))]:
                outputs = outputs[[layer for layer, _ in places]]
                states = block.states[[node for _, node in places], rows]
        elif self.own:
            outputs = outputs[: len(outputs) - len(self.own)]
        columns = {name: column[rows] for name, column in self.columns.items()}
        return np.ascontiguousarray(outputs), np.ascontiguousarray(states), columns

    def _place(self, name: str, apps: Mapping[str, str]) -> tuple[int, int]:
        """Where the outputs of a member stand, and where its states."""
        if name in apps:
            behind = self.own.index((apps[name], name)) - len(self.own)
            return self.block.kind.layers + behind, self.block.kind.nodes + behind
        at = self.block.revision.asked.index(name)
        return at, at


class ShadowFusions:
    """A ``Watcher`` that has shadows. All of it is called on the event loop."""

    def __init__(self, engine: Engine):
        self._engine, self._loop = engine, asyncio.get_running_loop()
        self._live = engine.revision
        self._views = views_of(self._live)
        self._shadows: dict[str, Shadow] = {}
        self._failed: dict[str, str] = {}
        self._asking = Asking(engine, self._take_asked)
        self._blocks = OpenBlocks(partial(self._hand_over, shadows=None, own=()))
        # Of rows that members of their own were asked about: by shadow, and by these members.
        self._asked_blocks: dict[tuple[tuple[str, ...], tuple[Key, ...]], OpenBlocks] = {}
        self._waiting: deque[_Work] = deque()
        self._waiting_bytes = self._calls = 0
        self._dropped_rows = self._looks = 0
        self._judge: LabelJudge | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._warming: asyncio.Future[None] | None = None

    def use(
        self, revisions: Sequence[Revision], failed: Mapping[str, str] | None = None,
        asks: Mapping[str, Asks] | None = None,
    ) -> None:  # fmt: skip
        """Have these shadows from now on; those that stay go on counting.

        Args:
            failed: by revision, why others cannot be built.
            asks: by revision, the members that it has of its own; they are known to the engine.
        """
        old, self._failed, asks = self._shadows, dict(failed or {}), asks or {}
        self._shadows = {}
        for one in revisions:
            same = old.get(one.name)
            if same is None or same.asks != asks.get(one.name):
                same = self._shadow(one, asks.get(one.name))
            self._shadows[one.name] = same
        self._waiting.clear()
        self._blocks.clear()
        self._asked_blocks.clear()
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
            self._asking.restart()
            self._shadows = {name: self._shadow(one.revision, one.asks) for name, one in self._shadows.items()}
            asks = {name: one.asks for name, one in self._shadows.items() if one.asks is not None}
            self.use([one.revision for one in self._shadows.values()], self._failed, asks)
            if self._judge is not None:
                self._judge.use(self._shadows, anew=True)
        self._blocks.end_all()
        for blocks in self._asked_blocks.values():
            blocks.end_all()

    def judge_by(self, location: str) -> None:
        """Judge by the labels of the record at this place; by none where it is empty."""
        if self._judge is not None:
            self._judge.close()
        self._judge = LabelJudge(location) if location else None
        if self._judge is not None:
            self._judge.use(self._shadows, anew=True)

    def close(self) -> None:
        """Note nothing more."""
        self.use([])
        self._asking.close()
        self.judge_by("")
        if self._timer is not None:
            self._timer.cancel()

    def report(self) -> dict[str, Any]:
        """How shadows compare with the live revision since it is live, or they are there, in JSON's types."""
        found: dict[str, Any] = {}
        for name, shadow in self._shadows.items():
            outputs = {output: one.to_json() for output, one in shadow.outputs.items()}
            found[name] = {"refused": shadow.refused, "outputs": outputs, "judged": self._judged(name)}
            if shadow.asks is not None:
                calls = {member: self._asking.calls.get((app, member)) for member, app in shadow.asks.apps.items()}
                found[name]["asks"] = {member: one.to_json() for member, one in calls.items() if one is not None}
        found |= {name: {"refused": why, "outputs": {}} for name, why in self._failed.items()}
        dropped = {"dropped_rows": self._dropped_rows, "given_up_rows": self._asking.given_up_rows}
        return {"live": self._live.name, "shadows": found, **dropped}

    def _judged(self, shadow: str) -> dict[str, Any]:
        sums = {} if self._judge is None else self._judge.sums
        return {output: one.to_json() for (name, output), one in sums.items() if name == shadow}

    def keep(
        self, revision: Revision, outputs: Array, states: Array, fused: FusedArrays,
        answered: Sequence[tuple[Request, int]], upstream: Mapping[str, MemberReply], start: int,
    ) -> None:  # fmt: skip
        """Note what was fused together, of the live revision; see ``Watcher``."""
        request, name = answered[0][0], revision.graph.output.name
        if self._views.get(name if revision.whole is not None else "") is not revision or request.members is not None:
            return
        self._asking.note(revision, name if revision.whole is not None else "", outputs, states, fused, answered)
        if not self._sharing:
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

    def _take_asked(self, asked: Asked) -> None:
        """Rows that members of shadows' own have been asked about."""
        shadows, rows = [self._shadows[name] for name in asked.shadows], asked.outputs.shape[1]
        group = asked.shadows, asked.keys
        if self._waiting_bytes > WAITING_BYTES:
            self._dropped_rows += rows
            return
        if group not in self._asked_blocks:
            hand_over = partial(self._hand_over, shadows=shadows, own=asked.keys)
            self._asked_blocks[group] = OpenBlocks(hand_over)
        blocks = self._asked_blocks[group]
        signature = asked.requests[0][0].signature if self._reads_inputs else ()
        kind = BlockKind.of(asked.revision, asked.outputs, asked.states, asked.fused, signature)
        block = blocks.with_room(kind, rows) or blocks.begin(kind, asked.revision, rows)
        self._calls += 1
        block.add(self._calls, asked.outputs, asked.states, asked.fused, asked.requests, {}, 0)

    def _shadow(self, revision: Revision, asks: Asks | None) -> Shadow:
        same = "it is live" if revision.name == self._live.name else ""
        shadow = Shadow(revision, asks, same or misfit(revision, self._live, () if asks is None else asks.apps))
        if not shadow.refused:
            shadow.outputs = {name: Comparison() for name in self._views}
        return shadow

    def _watch(self) -> None:
        """Be told of answers where any shadow is computed."""
        computed = [one for one in self._shadows.values() if not one.refused]
        self._sharing = [one for one in computed if one.asks is None]
        self._asking.use((one.revision.name, one.asks, views_of(one.revision)) for one in computed if one.asks)
        views = [view for one in computed for view in views_of(one.revision).values()]
        self._reads_inputs = any(view.graph.output.reads_inputs for view in views)
        self._engine.answers.watch(self, bool(computed))
        if self._judge is not None:
            self._judge.use(self._shadows, anew=False)

    def _hand_over(self, block: Block, shadows: Sequence[Shadow] | None, own: tuple[Key, ...]) -> None:
        """Have a block fused by some shadows, by all those that share their members where they are None."""
        columns, kind = {}, block.kind
        if kind.inputs:
            names = [name for name, _, _ in kind.inputs]
            columns = {name: np.concatenate([given[name] for given in block.inputs]) for name in names}
        starts = np.cumsum([0, *block.counts]).tolist()
        output = kind.output if block.revision.whole is not None else ""
        self._waiting.append(_Work(block, self._sharing if shadows is None else shadows, own, output, columns, starts))
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
        shadow = work.shadows[work.turn]
        if work.output not in shadow.warm:
            shadow.warm.add(work.output)
            self._warming = self._loop.run_in_executor(None, _warm_up, shadow, work)
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
        shadow = work.shadows[work.turn]
        view, compared = views_of(shadow.revision)[work.output], shadow.outputs[work.output]
        stop = self._slice_end(work, shadow, view)
        if work.at == 0:
            self._time_single(work, shadow, compared)
        began = time.thread_time()
        try:
            self._compare(work, shadow, compared, slice(work.at, stop))
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
        if work.turn >= len(work.shadows):
            self._waiting.popleft()
            self._waiting_bytes -= work.block.nbytes
            self._remember(work)

    def _remember(self, work: _Work) -> None:
        """Have it judged when labels come."""
        block, task = work.block, work.block.revision.spec.inferred_task
        if self._judge is None or task not in METRICS or not work.said:
            return
        shadows = {
            name: (np.concatenate([one.values for one in parts]), np.concatenate([one.said for one in parts]))
            for name, parts in work.said.items()
        }
        whole = {name: one for name, one in shadows.items() if len(one[1]) == block.rows}  # one may have failed
        live, classes = block.values[: block.rows].copy(), block.revision.graph.spec.classes or ()
        said = _live_said(block, slice(0, block.rows))
        self._judge.remember(Said(task, classes, work.output, block.ids, block.counts, (live, said), whole))

    def _slice_end(self, work: _Work, shadow: Shadow, view: Revision) -> int:
        if view.graph.output.ranks_rows:  # the rows of an answer are one list
            return next(start for start in work.starts if start > work.at)
        least = SLICE_NUMBERS // max(work.block.outputs[:, 0].size, 1)
        return min(work.at + max(shadow.slice_rows, least), work.block.rows)

    def _compare(self, work: _Work, shadow: Shadow, compared: Comparison, rows: slice) -> None:
        block, view = work.block, views_of(shadow.revision)[work.output]
        coverage = block.coverage[rows]
        if block.revision.graph.upstream:  # that one counts what inner fusions were missing, too
            coverage = block.revision.fuse_again(*work.read_by(None, rows))[0].coverage
        live = Answered(block.values[rows], coverage, _live_said(block, rows))
        began = time.thread_time()
        fused, enough = view.fuse_again(*work.read_by(shadow, rows))
        compared.fused_s += time.thread_time() - began
        said = enough if fused.abstained is None else enough & ~fused.abstained
        other = Answered(fused.values, fused.coverage, said)
        compared.add(view.spec.inferred_task, live, other)
        if self._judge is not None:
            work.said.setdefault(shadow.revision.name, []).append(other)

    def _time_single(self, work: _Work, shadow: Shadow, compared: Comparison) -> None:
        """What one row alone takes each: how much later an answer would come."""
        given = [work.read_by(one, slice(0, 1)) for one in (None, shadow)]
        with contextlib.suppress(Exception):  # it is counted with the other rows
            began = time.thread_time()
            work.block.revision.fuse_again(*given[0])
            between = time.thread_time()
            views_of(shadow.revision)[work.output].fuse_again(*given[1])
            compared.single_s += time.thread_time() - between
            compared.single_live_s += between - began
            compared.singles += 1


def _live_said(block: Block, rows: slice) -> NDArray[np.bool_]:
    """(R,) which of the rows the live fusion answers."""
    said = block.revision.enough(block.states[: len(block.revision.asked), rows])
    return said if block.abstained is None else said & ~block.abstained[rows]


def _warm_up(shadow: Shadow, work: _Work) -> None:
    """Fuse some rows on a thread: what a rule does for the first time may take a tenth of a second."""
    view = views_of(shadow.revision)[work.output]
    outputs, states, columns = work.read_by(shadow, slice(0, min(_FIRST_ROWS, work.block.rows)))
    with contextlib.suppress(Exception):  # it will fail again, and be counted
        view.fuse_again(outputs, np.zeros_like(states), columns)
        one_missing = np.zeros_like(states)
        one_missing[0, 0] = RowState.DEADLINE
        view.fuse_again(outputs, one_missing, columns)
