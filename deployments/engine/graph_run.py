"""One batch on its way through a graph: members that read members, fusions that members read, gates and cascades.

Everything is asked for by rows: a member runs on the rows that somebody wants of it and whose sources are all there,
a row whose source is missing is missing too, for the same reason. An inner fusion closes when all its members have
replied, or at its share of the deadline with those that have, under its own quorum.
"""

# M members, B batch

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.fan_out import deaf, give_up
from quorate.deployments.engine.fuser import Fuser
from quorate.deployments.engine.graph import Graph
from quorate.deployments.engine.selection import Steering, steering
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.member import Ask, Member, MemberReply
from quorate.deployments.transport.messages import Payload
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.errors import QuorateError

Array = NDArray[Any]
Mask = NDArray[np.bool_]
_log = logging.getLogger(__name__)


class _Node:
    """What is known of one node's rows.

    Attributes:
        wanted, sent, settled: (B,) rows asked for, on their way, and of known state.
        state: (B,) RowState.
        values: (B, ...), None before the first usable row.
        coverage: (B,) share of weight behind each row.
    """

    def __init__(self, rows: int):
        self.wanted, self.sent, self.settled = (np.zeros(rows, dtype=np.bool_) for _ in range(3))
        self.state = np.full(rows, RowState.UNASKED, dtype=np.uint8)
        self.values: Array | None = None
        self.coverage: Array | None = None

    def settle(self, rows: Array, state: Array | int, values: Array | None = None) -> None:
        """Say what became of rows, given by number; ``values`` has one row for each."""
        self.settled[rows] = True
        self.state[rows] = state
        if values is None or not (self.state[rows] == RowState.OK).any():
            return
        if len(rows) == len(self.state):
            self.values = values
            return
        if self.values is None:
            self.values = np.zeros((len(self.state), *values.shape[1:]), values.dtype)
        if self.values.shape[1:] != values.shape[1:]:
            self.state[rows[self.state[rows] == RowState.OK]] = RowState.SHAPE
            return
        self.values = self.values.astype(np.result_type(self.values, values), copy=False)
        self.values[rows] = values


class _Fusion:
    """An inner fusion, or the answer's own, whose rows are fused by the batch."""

    def __init__(self, fuser: Fuser, steer: Steering, rows: int):
        self.fuser, self.steer, self.node = fuser, steer, _Node(rows)
        self.asked: dict[str, Mask] = {}
        self.too_late: dict[str, Mask] = {}
        self.opening = False
        self.closed = False


class Flow:
    """Asks the members of one batch in the order of the graph; a ``Fanout``."""

    def __init__(
        self,
        graph: Graph,
        asked: Sequence[str],
        members: Mapping[str, Member],
        metrics: Metrics,
        columns: Mapping[str, Array],
        due: float,
        expires: float,
        on_reply: Callable[[], None],
    ):
        self._graph, self._members, self._metrics = graph, members, metrics
        self._columns, self._due, self._expires, self._on_reply = columns, due, expires, on_reply
        self._rows = rows = len(next(iter(columns.values())))
        self._nodes = {name: _Node(rows) for name in graph.members}
        self._fusions = {
            fuser.name: _Fusion(fuser, steering(fuser, columns, asked if fuser is graph.output else fuser.asked), rows)
            for fuser in (graph.output, *graph.inner.values())
        }
        self._output = self._fusions[graph.output.name]
        self._asks: dict[int, tuple[str, Ask]] = {}
        self._tokens = itertools.count()
        self._timers: list[asyncio.TimerHandle] = []
        self._fused: dict[str, MemberReply] = {}
        self._started = time.monotonic()

    def start(self) -> None:
        self._want(self._output)

    @property
    def complete(self) -> bool:
        return self._output.closed

    def so_far(self) -> Mapping[str, MemberReply]:
        replies = self._replies(self._output)
        for name in self._graph.upstream:
            node = self._nodes[name]
            state = np.where(node.settled, node.state, np.where(node.wanted, RowState.DEADLINE, RowState.UNASKED))
            replies[name] = MemberReply(node.values, state.astype(np.uint8))
        return replies

    def input_coverage(self) -> Mapping[str, Array]:
        known = {name: self._coverage_behind(name) for name in self._output.fuser.asked}
        return {name: coverage for name, coverage in known.items() if coverage is not None}

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for name, ask in self._asks.values():
            give_up({name: ask}, self._metrics)
        self._asks.clear()
        self._timers.clear()
        self._output.closed = True
        self._on_reply = deaf

    # -- wanting rows

    def _want(self, fusion: _Fusion) -> None:
        """A fusion runs once, on all rows of the batch: a second round would have no time left."""
        rows = np.ones(self._rows, dtype=np.bool_)
        fusion.node.wanted = rows
        share = fusion.fuser.fusion.deadline_s / self._output.fuser.fusion.deadline_s
        if fusion is not self._output:
            self._at(share, partial(self._close, fusion))
        for number, part in enumerate(fusion.steer.deadlines(), start=1):
            self._at(share * part, partial(self._end_stage, fusion, number))
        self._ask_for(fusion, fusion.steer.first(rows))

    def _at(self, share: float, action: Callable[[], None]) -> None:
        """Do this when so much of the time that the batch has is over."""

        def act() -> None:
            action()
            self._on_reply()

        delay = share * (self._due - self._started)
        self._timers.append(asyncio.get_running_loop().call_later(max(delay, 0.0), act))

    def _ask_for(self, fusion: _Fusion, wanted: Mapping[str, Mask]) -> None:
        fusion.opening = True  # members may settle at once: the fusion looks when all have been asked
        for name, rows in wanted.items():
            fusion.asked[name] = fusion.asked.get(name, False) | rows
            self._want_member(name, rows)
        fusion.opening = False
        self._advance(fusion)

    def _want_member(self, name: str, rows: Mask) -> None:
        node = self._nodes[name]
        fresh = rows & ~node.wanted
        if not fresh.any():
            return
        node.wanted |= fresh
        for source in self._graph.spec.members[name].inputs:
            if source in self._nodes:
                self._want_member(source, fresh)
            elif source in self._fusions and not self._fusions[source].node.wanted.any():
                self._want(self._fusions[source])
        self._try(name)

    # -- members

    def _try(self, name: str) -> None:
        """Send the rows whose sources are all there, once no source keeps others waiting."""
        node = self._nodes[name]
        waiting = node.wanted & ~node.sent & ~node.settled
        if not waiting.any():
            return
        sources = [self._node(s) for s in self._graph.spec.members[name].inputs if s not in self._columns]
        for source in sources:
            lost = waiting & source.settled & (source.state != RowState.OK)
            if lost.any():
                waiting &= ~lost
                self._settle(name, np.flatnonzero(lost), source.state[lost])
        if waiting.any() and all(source.settled[waiting].all() for source in sources):
            self._send(name, np.flatnonzero(waiting))

    def _send(self, name: str, rows: Array) -> None:
        member, node = self._members[name], self._nodes[name]
        node.sent[rows] = True
        tensors = []
        for source in self._graph.spec.members[name].inputs:
            column = self._columns[source] if source in self._columns else self._node(source).values
            assert column is not None
            tensors.append(column if len(rows) == self._rows else column[rows])
        token = next(self._tokens)
        done = partial(self._take, name, rows, token)
        ask = member.ask(self._graph.kinds[name], Payload.of(tensors), self._expires, done)
        if ask is None:
            reply = MemberReply(None, None, member.reason)
            self._metrics.member_replied(name, reply)
            self._settle(name, rows, RowState.of(reply.reason))
        elif not ask.finished:
            self._asks[token] = (name, ask)

    def _take(self, name: str, rows: Array, token: int, reply: MemberReply) -> None:
        self._asks.pop(token, None)
        self._metrics.member_replied(name, reply)
        if reply.values is None or reply.status is None:
            self._settle(name, rows, RowState.of(reply.reason))
        else:
            self._settle(name, rows, reply.status, reply.values)
        self._on_reply()

    def _settle(self, name: str, rows: Array, state: Array | int, values: Array | None = None) -> None:
        self._nodes[name].settle(rows, state, values)
        self._fused.pop(name, None)
        for reader in self._graph.readers[name]:
            self._try(reader)
        for fusion in self._fusions.values():
            if name in fusion.asked:
                self._advance(fusion)

    def _node(self, name: str) -> _Node:
        return self._nodes[name] if name in self._nodes else self._fusions[name].node

    # -- fusions

    def _advance(self, fusion: _Fusion) -> None:
        """Go on once everybody asked has replied: to the next stage, or to the end."""
        if fusion.opening or fusion.closed:
            return
        if any(self._open_rows(fusion, name).any() for name in fusion.asked):
            return
        more = fusion.steer.next(self._replies(fusion), fusion.node.wanted)
        if any(rows.any() for rows in more.values()):
            self._ask_for(fusion, more)
        else:
            self._close(fusion)

    def _open_rows(self, fusion: _Fusion, name: str) -> Mask:
        rows: Mask = fusion.asked[name] & ~self._nodes[name].settled
        return rows & ~fusion.too_late[name] if name in fusion.too_late else rows

    def _end_stage(self, fusion: _Fusion, number: int) -> None:
        """A stage of a cascade has had its time: it decides without those that are late."""
        if fusion.closed or fusion.steer.stage >= number:
            return
        for name in fusion.asked:
            fusion.too_late[name] = fusion.too_late.get(name, False) | self._open_rows(fusion, name)
        self._advance(fusion)

    def _replies(self, fusion: _Fusion) -> dict[str, MemberReply]:
        """What a fusion knows of its members now."""
        return {name: self._reply(fusion, name) for name in fusion.fuser.asked}

    def _reply(self, fusion: _Fusion, name: str) -> MemberReply:
        node = self._nodes[name]
        asked = fusion.asked.get(name, np.zeros(self._rows, dtype=np.bool_))
        there = node.settled & ~fusion.too_late.get(name, np.zeros_like(asked))
        raw = self._fusable(name)
        known = node.state if raw.status is None else raw.status
        state = np.where(there, known, RowState.DEADLINE).astype(np.uint8)
        state[~asked] = RowState.UNASKED
        return MemberReply(raw.values, state)

    def _fusable(self, name: str) -> MemberReply:
        """A member's rows as fusions read them."""
        node = self._nodes[name]
        if node.values is None or name not in self._graph.alignments:
            return MemberReply(node.values, node.state)
        if name not in self._fused:
            state = node.state.copy()
            self._fused[name] = MemberReply(self._graph.alignments[name].fusable(node.values, state), state)
        return self._fused[name]

    def _close(self, fusion: _Fusion) -> None:
        if fusion.closed:
            return
        fusion.closed = True
        if fusion is self._output:
            return
        self._fuse(fusion)
        for reader in self._graph.readers[fusion.fuser.name]:
            self._try(reader)

    def _fuse(self, fusion: _Fusion) -> None:
        """Fuse an inner fusion's rows, or say why they are missing."""
        replies, fuser = self._replies(fusion), fusion.fuser
        outputs, present = fuser.gather(replies, self._rows)
        wanted, state = fusion.node.wanted, np.stack([np.asarray(replies[name].status) for name in fuser.asked])
        asked = (state != RowState.UNASKED).sum(axis=0)
        enough = fuser.enough(present, asked) & wanted
        # The first member that is missing says why a row is.
        missing = (state != RowState.OK) & (state != RowState.UNASKED)
        why = np.take_along_axis(state, missing.argmax(axis=0)[None], axis=0)[0]
        why[~missing.any(axis=0)] = RowState.SHAPE  # all are there, but of different widths
        short = np.flatnonzero(wanted & ~enough)
        fusion.node.settle(short, why[short])
        if outputs is not None and enough.any():
            fusion.node.coverage = np.ones(self._rows, dtype=np.float32)
            self._fuse_rows(fusion, outputs, present, np.flatnonzero(enough))

    def _fuse_rows(self, fusion: _Fusion, outputs: Array, present: Mask, rows: Array) -> None:
        """Fuse these rows; when the rule refuses one, each half by itself."""
        inputs = {name: column[rows] for name, column in self._columns.items()} if fusion.steer.reads_inputs else {}
        try:
            fused = fusion.fuser.fuse(outputs[:, rows], present[:, rows], inputs)
        except QuorateError:
            if len(rows) == 1:
                fusion.node.settle(rows, RowState.ERROR)
            else:
                self._fuse_rows(fusion, outputs, present, rows[: len(rows) // 2])
                self._fuse_rows(fusion, outputs, present, rows[len(rows) // 2 :])
            return
        except Exception:  # whatever a rule raises, nobody may be left without an answer
            _log.exception("fusion '%s' failed", fusion.fuser.name)
            fusion.node.settle(rows, RowState.ERROR)
            return
        fusion.node.settle(rows, RowState.OK, fused.values)
        assert fusion.node.coverage is not None
        behind = self._behind(fusion, fused.contributions, rows)
        fusion.node.coverage[rows] = fused.coverage * behind

    def _behind(self, fusion: _Fusion, contributions: Array, rows: Array) -> Array:
        known = {name: self._coverage_behind(name) for name in fusion.fuser.asked}
        partial_ = {name: coverage[rows] for name, coverage in known.items() if coverage is not None}
        return discount(fusion.fuser.asked, contributions, partial_)

    def _coverage_behind(self, name: str) -> Array | None:
        """(B,) the lowest coverage among what a member read; None when that was all there is."""
        lowest: Array | None = None
        for source in self._graph.spec.members[name].inputs:
            if source in self._columns:
                continue
            coverage = self._coverage_behind(source) if source in self._nodes else self._fusions[source].node.coverage
            if coverage is not None:
                lowest = coverage if lowest is None else np.minimum(lowest, coverage)
        return lowest


def discount(asked: Sequence[str], contributions: Array, behind: Mapping[str, Array]) -> Array:
    """(B,) the mean coverage of what the members read, by how much each contributed to the row.

    Args:
        contributions: (M, B).
        behind: (B,) by member, where it is not 1 throughout.
    """
    if not behind:
        return np.ones(contributions.shape[1], dtype=np.float32)
    coverage = np.stack([behind.get(name, np.ones(contributions.shape[1], np.float32)) for name in asked])
    total = contributions.sum(axis=0)
    safe = np.where(total > 0, total, 1.0)
    return np.where(total > 0, (contributions * coverage).sum(axis=0) / safe, 1.0).astype(np.float32)
