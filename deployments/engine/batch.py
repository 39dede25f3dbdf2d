"""Requests that travel together: one fan-out to the members, one fusion, each request with its own deadline."""

# M members asked, B rows, C classes

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.fan_out import SLACK_S, Asked, FanOut, Parallel
from quorate.deployments.engine.fusions.presence import OK, UNASKED, Account, Mask, Presence, States, discount
from quorate.deployments.engine.graph_run import GraphRun
from quorate.deployments.engine.requests.deadlines import Deadlines
from quorate.deployments.engine.requests.request import Answer, Explanation, Request
from quorate.deployments.engine.revision import Revision
from quorate.deployments.engine.shortage import shortage
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.telemetry.batch_trace import NOT_TRACED, BatchTrace
from quorate.fusion.base import FusedArrays
from quorate.fusion.errors import QuorateError

Array = NDArray[Any]
_log = logging.getLogger(__name__)
_NOTHING: Mapping[str, str | float] = {}
_NO_COLUMNS: Mapping[str, Array] = {}
_ONE_CLASS_A_ROW = (None, "classification", "binary")  # tasks


class Batch:
    """Asks every member once and answers each request when all have replied or when its deadline is up.

    ``on_first`` is called when a member has replied or the batch has ended: the next batch may start.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        revision: Revision,
        members: Mapping[str, Asked],
        metrics: Metrics,
        on_first: Callable[[], None],
        deadlines: Deadlines[Batch],
        columns: Mapping[str, Array] | None = None,
    ):
        """Args:
        deadlines: calls ``settle`` at the next of its requests' deadlines.
        columns: the requests' inputs, joined; done here when None.
        """
        self._open, self._began = list(requests), time.monotonic()
        self._revision, self._metrics, self._on_first = revision, metrics, on_first
        graph, chosen = revision.graph, requests[0].members
        self._fused = revision.asked if chosen is None else tuple(n for n in revision.asked if n in chosen)
        # Those whom the answer names: members that other members read count as well.
        self._nodes = (*revision.asked, *graph.upstream)
        self._starts: dict[Request, int] = {}
        at, due, expires = 0, math.inf, 0.0
        for request in requests:
            self._starts[request] = at
            at += request.rows
            due, expires = min(due, request.deadline), max(expires, request.deadline)
        self._rows = at
        columns = join_columns(requests) if columns is None else columns
        self._members = members
        self._columns = columns if graph.reads_inputs else _NO_COLUMNS
        self._trace = self._traced(requests)
        self._fan_out: FanOut
        if graph.flat:
            self._fan_out = Parallel(graph, self._fused, members, metrics, columns, expires, self._changed, self._trace)
        else:
            self._fan_out = GraphRun(
                graph, self._fused, members, metrics, columns, due, expires, self._changed, self._trace
            )
        self._replies: Mapping[str, MemberReply] = {}
        self._deadlines = deadlines

    def _traced(self, requests: Sequence[Request]) -> BatchTrace | None:
        traces = [(r.trace, r.deadline - r.allowed_s) for r in requests if r.trace is not None]
        if not traces:
            return None
        attributes = {"quorate.requests": len(requests), "quorate.rows": self._rows}
        return BatchTrace(traces, self._revision.name, attributes)

    def start(self) -> None:
        """Send the rows to every member."""
        self._fan_out.start()
        self.settle()

    def abandon(self, request: Request) -> None:
        """The client is gone; after the last one, the calls to the members are cancelled."""
        if request in self._open:
            self._open.remove(request)
            if not self._open:
                self.settle()

    def fail(self, requests: Sequence[Request], error: QuorateError) -> None:
        """End requests that can have no answer."""
        for request in requests:
            if not request.promise.done():
                request.promise.set_exception(error)

    def _changed(self) -> None:
        self._on_first()
        if self._fan_out.complete:  # before that only a deadline ends a request, and the timer is set for those
            self.settle()

    def settle(self) -> None:
        """Answer the requests that can be answered, and set a timer for the next deadline."""
        now = time.monotonic()
        due, self._open = self._open, []
        if not self._fan_out.complete:
            self._open = [request for request in due if request.deadline > now + SLACK_S]
            due = [request for request in due if request.deadline <= now + SLACK_S]
        if due:
            self._answer(due)
        if self._open:
            self._deadlines.set(self, min([request.deadline for request in self._open]))
        else:
            self._end()

    def _end(self) -> None:
        self._deadlines.drop(self)
        try:
            self._fan_out.stop()
        finally:
            if self._trace is not None:
                self._trace.end()
            self._on_first()

    def _answer(self, due: Sequence[Request]) -> None:
        started = time.perf_counter()
        try:
            self._replies = self._fan_out.so_far()
            outputs, presence = self._gather()
            few = due[0].rows != self._rows and len(due) * 2 < len(self._starts)  # of many: fuse only their rows
            if few or self._revision.graph.output.ranks_rows:
                for request in due:
                    self._answer_rows([request], outputs, presence, self._starts[request], request.rows)
            else:
                self._answer_rows(due, outputs, presence, 0, self._rows)
        except Exception:  # whatever a rule raises, nobody may be left without an answer
            _log.exception("a batch could not be fused")
            self.fail(due, QuorateError("the members' answers could not be fused; the server's log says why"))
        self._metrics.fused(time.perf_counter() - started)

    def _gather(self) -> tuple[Array | None, Presence]:
        """What the members gave, as the rule reads it, and the state of every row at every member."""
        graph = self._revision.graph
        outputs, states = graph.output.gather(self._replies, self._rows)
        if len(self._fused) < len(states):
            states[[name not in self._fused for name in self._revision.asked]] = UNASKED
        if graph.upstream:
            states = np.vstack([states, *(np.asarray(self._replies[name].status) for name in graph.upstream)])
        return outputs, Presence(self._nodes, states)

    def _answer_rows(
        self, due: Sequence[Request], outputs: Array | None, presence: Presence, start: int, rows: int
    ) -> None:
        """Fuse ``rows`` rows from ``start`` and hand each request its own."""
        there = presence.cut(start, start + rows)
        output = self._revision.graph.output
        states = there.first(len(output.asked))
        # Nearly always all are there.
        enough = None if there.complete or not np.count_nonzero(states) else output.enough(states)
        all_enough = enough is None or bool(enough.all())
        fused: FusedArrays | None = None
        if outputs is not None and (enough is None or enough.any()):
            try:
                fused = self._fuse(outputs[:, start : start + rows], states, enough, start)
            except QuorateError as error:
                if len(due) == 1:
                    self.fail(due, error)
                else:  # the rule refuses some row: only the request that holds it has to go without
                    for request in due:
                        self._answer_rows([request], outputs, presence, self._starts[request], request.rows)
                return
        account = there.account() if there.alike() else None
        answered: list[tuple[Request, int]] = []
        for request in due:
            at = self._starts[request]
            cut = slice(at - start, at - start + request.rows)
            if request.promise.done():
                continue
            if fused is None or not (all_enough or (enough is not None and enough[cut].all())):
                own = presence.cut(at, at + request.rows)
                request.promise.set_exception(shortage(output, own, len(self._fused), request.inputs, self._back_s))
            else:
                own_account = account or presence.cut(at, at + request.rows).account()
                if request.watchers:
                    answered.append((request, at - start))
                request.promise.set_result(self._cut(request, fused, presence, own_account, at, cut))
        if fused is not None and outputs is not None:
            part = outputs[:, start : start + rows]
            self._look(part, states, enough, fused)
            if answered:
                upstream = {name: self._replies[name] for name in self._revision.graph.upstream}
                for one in answered[0][0].watchers:  # all of a batch have the same
                    one.keep(self._revision, part, there.states, fused, answered, upstream, start)

    def _look(self, outputs: Array, states: States, enough: Mask | None, fused: FusedArrays) -> None:
        """Have a row counted for drift, when one is due."""
        row = self._metrics.drift.row(len(fused.values))
        if row is None or (enough is not None and not enough[row]):
            return
        output, spec = self._revision.graph.output, self._revision.spec
        classes = spec.classes if spec.task in _ONE_CLASS_A_ROW else None
        self._metrics.drift.look(
            output.name, classes, output.asked, outputs[:, row], states[:, row] == OK, fused.values[row]
        )

    def _fuse(self, outputs: Array, states: States, enough: Mask | None, at: int) -> FusedArrays:
        """Fuse rows from ``at`` on that have enough members; all rows have all of them where ``enough`` is None."""
        rows = slice(at, at + states.shape[1])
        inputs = {name: column[rows] for name, column in self._columns.items()} if self._columns else _NO_COLUMNS
        output, rule = self._revision.graph.output, self._revision.fusion.rule
        with NOT_TRACED if self._trace is None else self._trace.fuse(rule, states.shape[1]):
            if enough is None:
                fused = output.fuse(outputs, None, inputs)
            else:
                fused = output.fuse_where(enough, outputs, states == OK, inputs)
        read = self._fan_out.input_coverage()
        if not read:
            return fused
        behind = {name: coverage[rows] for name, coverage in read.items()}
        return replace(fused, coverage=fused.coverage * discount(self._revision.asked, fused.contributions, behind))

    def _back_s(self, name: str) -> float:
        return self._members[name].back_s() if name in self._members else 0.0

    def _cut(
        self, request: Request, fused: FusedArrays, presence: Presence, account: Account, at: int, cut: slice
    ) -> Answer:
        """A request's rows, which are ``cut`` of what was fused and start at ``at`` in the batch."""
        abstained = () if fused.abstained is None else tuple(np.flatnonzero(fused.abstained[cut]).tolist())
        return Answer(
            fused.values[cut],
            self._revision.name,
            *account,
            fused.coverage[cut],
            abstained,
            self._explain(fused, at, cut) if request.explain else None,
            self._began - (request.deadline - request.allowed_s),
            self._certainty(fused.values[cut], presence, slice(at, at + request.rows)),
            request.answer_id,
        )

    def _certainty(self, values: Array, presence: Presence, rows: slice) -> Mapping[str, str | float]:
        output = self._revision.graph.output
        if output.conformal is None:
            return _NOTHING
        there = presence.states[:, rows] == OK
        # Nothing was fitted on rows that an inner fusion has answered from less than it has.
        whole = there[len(output.asked) :].all(axis=0)
        return output.conformal.parameters(values, there[: len(output.asked)] & whole)

    def _explain(self, fused: FusedArrays, at: int, cut: slice) -> Explanation:
        rows = slice(at, at + cut.stop - cut.start)
        outputs = {n: r.values[rows] for n, r in self._replies.items() if r.values is not None and r.values.size}
        zeros, upstream = np.zeros_like(fused.values[cut]), self._revision.graph.upstream
        outputs = {n: outputs.get(n, zeros) for n in (*self._fused, *upstream) if n in outputs or n in self._fused}
        contributions = {n: fused.contributions[i, cut] for i, n in enumerate(self._revision.asked)}
        return Explanation(outputs, contributions)


def join_columns(requests: Sequence[Request]) -> Mapping[str, Array]:
    """The inputs of all, row behind row."""
    if len(requests) == 1:
        return requests[0].inputs
    return {name: np.concatenate([request.inputs[name] for request in requests]) for name in requests[0].inputs}
