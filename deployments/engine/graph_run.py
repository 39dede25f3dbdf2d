"""One batch on its way through a graph: members that read members, fusions that members read, gates and cascades.

Everything is asked for by rows: a member runs on the rows that are wanted of it and whose sources are all there; a row
whose source is missing is missing too, for the same reason. An inner fusion closes when all its members have
replied, or at its share of the deadline with those that have, under its own quorum.
"""

# M members, B rows

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.fan_out import Asked, Waiting, give_up, ignore, not_asked, traced
from quorate.deployments.engine.fusion_run import FusionRun, NodeRows
from quorate.deployments.engine.fusions.presence import OK, UNASKED, Mask, States, coverage_behind, seen_by
from quorate.deployments.engine.fusions.selection import build_selection
from quorate.deployments.engine.graph import Graph
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.telemetry.batch_trace import BatchTrace
from quorate.deployments.transport.messages import Payload
from quorate.deployments.transport.row_state import RowState

Array = NDArray[Any]


class GraphRun:
    """Asks the members of one batch in the order of the graph; a ``FanOut``."""

    def __init__(
        self,
        graph: Graph,
        asked: Sequence[str],
        members: Mapping[str, Asked],
        metrics: Metrics,
        columns: Mapping[str, Array],
        due: float,
        expires: float,
        on_reply: Callable[[], None],
        trace: BatchTrace | None = None,
    ):
        self._graph, self._members, self._metrics = graph, members, metrics
        self._columns, self._due, self._expires, self._on_reply = columns, due, expires, on_reply
        self._trace = trace
        self._rows = rows = len(next(iter(columns.values())))
        fusers = {fuser.name: fuser for fuser in (graph.output, *graph.inner.values())}
        states = np.full((len(graph.members) + len(fusers), rows), UNASKED, dtype=np.uint8)
        nodes = {name: NodeRows(row) for name, row in zip((*graph.members, *fusers), states, strict=True)}
        self._nodes = {name: nodes[name] for name in graph.members}
        self._fusions = {}
        for name, fuser in fusers.items():
            selection = build_selection(fuser, columns, asked if fuser is graph.output else fuser.asked)
            self._fusions[name] = FusionRun(fuser, selection, nodes[name], self._nodes)
        self._output = self._fusions[graph.output.name]
        self._calls: dict[int, tuple[str, Waiting]] = {}
        self._tokens = itertools.count()
        self._timers: list[asyncio.TimerHandle] = []
        self._aligned: dict[str, tuple[Array, States]] = {}
        self._started = time.monotonic()

    def start(self) -> None:
        self._want(self._output)

    @property
    def complete(self) -> bool:
        return self._output.closed

    def so_far(self) -> Mapping[str, MemberReply]:
        replies = self._output.replies(self._fusable)
        for name in self._graph.upstream:
            node = self._nodes[name]
            replies[name] = MemberReply(node.values, seen_by(node.states, node.settled, node.wanted))
        return replies

    def input_coverage(self) -> Mapping[str, Array]:
        return self._coverage_behind(self._output)

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for name, call in self._calls.values():
            give_up({name: call}, self._metrics)
        self._calls.clear()
        self._timers.clear()
        self._output.closed = True
        self._on_reply = ignore

    # -- wanting rows

    def _want(self, fusion: FusionRun) -> None:
        """A fusion runs once, on all rows of the batch: a second round would have no time left."""
        rows = np.ones(self._rows, dtype=np.bool_)
        fusion.node.wanted = rows
        share = fusion.fuser.fusion.deadline_s / self._output.fuser.fusion.deadline_s
        if fusion is not self._output:
            self._at(share, partial(self._close, fusion))
        for number, part in enumerate(fusion.selection.deadlines(), start=1):
            self._at(share * part, partial(self._end_stage, fusion, number))
        self._ask(fusion, fusion.selection.first(rows))

    def _at(self, share: float, action: Callable[[], None]) -> None:
        """Do this when so much of the time that the batch has is over."""

        def act() -> None:
            action()
            self._on_reply()

        delay = share * (self._due - self._started)
        self._timers.append(asyncio.get_running_loop().call_later(max(delay, 0.0), act))

    def _ask(self, fusion: FusionRun, wanted: Mapping[str, Mask]) -> None:
        fusion.opening = True  # members may settle at once: the fusion looks when all have been asked
        for name, rows in wanted.items():
            fusion.ask(name, rows)
            self._want_member(name, rows)
        fusion.opening = False
        self._advance(fusion)

    def _want_member(self, name: str, rows: Mask) -> None:
        node = self._nodes[name]
        fresh = rows & ~node.wanted
        if not fresh.any():
            return
        node.wanted |= fresh
        for source in self._sources(name):
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
        sources = [self._node(source) for source in self._sources(name) if source not in self._columns]
        for source in sources:
            lost = waiting & source.settled & (source.states != OK)
            if lost.any():
                waiting &= ~lost
                self._settle(name, np.flatnonzero(lost), source.states[lost])
        if waiting.any() and all(source.settled[waiting].all() for source in sources):
            self._send(name, np.flatnonzero(waiting))

    def _send(self, name: str, rows: Array) -> None:
        member, node = self._members[name], self._nodes[name]
        node.sent[rows] = True
        tensors = []
        for source in self._sources(name):
            column = self._columns[source] if source in self._columns else self._node(source).values
            assert column is not None
            tensors.append(column if len(rows) == self._rows else column[rows])
        token = next(self._tokens)
        done = partial(self._take, name, rows, token)
        payload = Payload(tensors)
        terms = traced(self._trace, self._graph.terms(name, self._expires), name, payload)
        call = member.ask(self._graph.kinds[name], payload, terms, done)
        if call is None:
            not_asked(terms, member.reason)
            reply = MemberReply(None, None, member.reason)
            self._metrics.member_replied(name, reply)
            self._settle(name, rows, RowState.of(reply.reason))
        elif not call.finished:
            self._calls[token] = (name, call)

    def _take(self, name: str, rows: Array, token: int, reply: MemberReply) -> None:
        self._calls.pop(token, None)
        self._metrics.member_replied(name, reply)
        if reply.values is None or reply.status is None:
            self._settle(name, rows, RowState.of(reply.reason))
        else:
            self._settle(name, rows, reply.status, reply.values)
        self._on_reply()

    def _settle(self, name: str, rows: Array, states: Array | int, values: Array | None = None) -> None:
        self._nodes[name].settle(rows, states, values)
        self._aligned.pop(name, None)
        for reader in self._graph.readers[name]:
            self._try(reader)
        for fusion in self._fusions.values():
            if fusion.asks(name):
                self._advance(fusion)

    def _sources(self, name: str) -> tuple[str, ...]:
        return self._graph.spec.members[name].inputs if name in self._nodes else ()

    def _node(self, name: str) -> NodeRows:
        return self._nodes[name] if name in self._nodes else self._fusions[name].node

    # -- fusions

    def _advance(self, fusion: FusionRun) -> None:
        """Go on once everybody asked has replied: to the next stage, or to the end."""
        if fusion.opening or fusion.closed or fusion.waits():
            return
        more = fusion.selection.next(fusion.replies(self._fusable), fusion.node.wanted)
        if any(rows.any() for rows in more.values()):
            self._ask(fusion, more)
        else:
            self._close(fusion)

    def _end_stage(self, fusion: FusionRun, number: int) -> None:
        """A stage of a cascade has had its time: it decides without those that are late."""
        if not fusion.closed and fusion.selection.stage < number:
            fusion.go_on()
            self._advance(fusion)

    def _close(self, fusion: FusionRun) -> None:
        if fusion.closed:
            return
        fusion.closed = True
        if fusion is self._output:
            return
        fusion.fuse(fusion.replies(self._fusable), self._columns, self._coverage_behind(fusion))
        for reader in self._graph.readers[fusion.fuser.name]:
            self._try(reader)

    def _fusable(self, name: str) -> tuple[Array | None, States]:
        """A member's rows as fusions read them, and their states."""
        node = self._nodes[name]
        if node.values is None or name not in self._graph.alignments:
            return node.values, node.states
        if name not in self._aligned:
            states = node.states.copy()
            self._aligned[name] = self._graph.alignments[name].fusable(node.values, states), states
        return self._aligned[name]

    def _coverage_behind(self, fusion: FusionRun) -> Mapping[str, Array]:
        """(B,) coverage of what each of its members read, where it is not 1 throughout."""

        def fused(source: str) -> Array | None:
            return self._fusions[source].node.coverage if source in self._fusions else None

        known = {name: coverage_behind(name, self._sources, fused) for name in fusion.fuser.asked}
        return {name: coverage for name, coverage in known.items() if coverage is not None}
