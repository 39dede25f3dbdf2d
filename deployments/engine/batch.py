"""Requests that travel together: one fan-out to the members, one fusion, each request with its own deadline."""

# M members asked, B batch, C classes

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.fan_out import SLACK_S, Fanout, Parallel
from quorate.deployments.engine.graph_run import Flow, discount
from quorate.deployments.engine.request import Answer, Explanation, Request
from quorate.deployments.engine.revision import Revision
from quorate.deployments.engine.row_errors import nonfinite_row
from quorate.deployments.errors import DeadlineError
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.member import Member, MemberReply
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.base import FusedArrays
from quorate.fusion.errors import QuorateError, QuorumError

Array = NDArray[Any]
_log = logging.getLogger(__name__)


class Batch:
    """Asks every member once and answers each request when all have replied or when its deadline is up.

    ``on_first`` is called when the first member has replied or the batch has ended: the next batch may start.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        revision: Revision,
        members: Mapping[str, Member],
        metrics: Metrics,
        on_first: Callable[[], None],
    ):
        self._open, self._began = list(requests), time.monotonic()
        self._revision, self._metrics, self._on_first = revision, metrics, on_first
        graph, chosen = revision.graph, requests[0].members
        self._fused = revision.asked if chosen is None else tuple(n for n in revision.asked if n in chosen)
        # Those whom the answer tells of: members that other members read count as well.
        self._told = (*self._fused, *graph.upstream)
        self._rows = sum(request.rows for request in requests)
        self._starts: dict[Request, int] = {}
        at = 0
        for request in requests:
            self._starts[request] = at
            at += request.rows
        columns = {
            name: np.concatenate([r.inputs[name] for r in requests]) if len(requests) > 1 else array
            for name, array in requests[0].inputs.items()
        }
        self._columns = columns if graph.steered(graph.output) else {}
        expires = max(request.deadline for request in requests)
        self._fanout: Fanout
        if graph.flat:
            self._fanout = Parallel(revision.spec, self._fused, members, metrics, columns, expires, self._changed)
        else:
            due = min(request.deadline for request in requests)
            self._fanout = Flow(graph, self._fused, members, metrics, columns, due, expires, self._changed)
        self._replies: Mapping[str, MemberReply] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._released = False

    def start(self) -> None:
        """Send the rows to every member."""
        self._fanout.start()
        self._settle()

    def abandon(self, request: Request) -> None:
        """The client is gone; when it was the last one, the members are told."""
        if request in self._open:
            self._open.remove(request)
            if not self._open:
                self._settle()

    def fail(self, requests: Sequence[Request], error: QuorateError) -> None:
        """End requests that can have no answer."""
        for request in requests:
            if not request.future.done():
                request.future.set_exception(error)

    def _changed(self) -> None:
        self._release()
        if self._fanout.complete:  # before that only a deadline ends a request, and the alarm is set for those
            self._settle()

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._on_first()

    def _settle(self) -> None:
        """Answer whom we can, and set the alarm for the next deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        due, waiting = self._open, []
        if not self._fanout.complete:
            due = [request for request in self._open if request.deadline <= now + SLACK_S]
            waiting = [request for request in self._open if request.deadline > now + SLACK_S]
        self._open = waiting
        if due:
            self._answer(due)
        if self._open:
            delay = min(request.deadline for request in self._open) - now
            self._timer = asyncio.get_running_loop().call_later(max(delay, 0.0), self._settle)
        else:
            self._end()

    def _end(self) -> None:
        self._fanout.stop()
        self._release()

    def _answer(self, due: Sequence[Request]) -> None:
        started = time.perf_counter()
        try:
            self._replies = self._fanout.so_far()
            outputs, present = self._revision.graph.output.gather(self._replies, self._rows)
            if due[0].rows != self._rows and len(due) * 2 < len(self._starts):  # a few of many: fuse only their rows
                for request in due:
                    self._answer_rows([request], outputs, present, self._starts[request], request.rows)
            else:
                self._answer_rows(due, outputs, present, 0, self._rows)
        except Exception:  # whatever a rule raises, nobody may be left without an answer
            _log.exception("a batch could not be fused")
            self.fail(due, QuorateError("the members' answers could not be fused; the server's log says why"))
        self._metrics.fused(time.perf_counter() - started)

    def _answer_rows(
        self, due: Sequence[Request], outputs: Array | None, present: NDArray[np.bool_], start: int, rows: int
    ) -> None:
        """Fuse ``rows`` rows from ``start`` and hand each request its own."""
        there = present[:, start : start + rows]
        everyone = bool(there.all())  # as nearly always: neither the quorum nor reasons need a look
        enough = None if everyone else self._enough(there, start)
        all_enough = enough is None or bool(enough.all())
        fused: FusedArrays | None = None
        if outputs is not None and (enough is None or enough.any()):
            try:
                fused = self._fuse(outputs[:, start : start + rows], there, enough, start)
            except QuorateError as error:
                if len(due) == 1:
                    self.fail(due, error)
                else:  # the rule refuses some row: only the request that holds it has to go without
                    for request in due:
                        self._answer_rows([request], outputs, present, self._starts[request], request.rows)
                return
        alike = self._missing_alike(there, everyone)
        for request in due:
            at = self._starts[request]
            cut = slice(at - start, at - start + request.rows)
            if request.future.done():
                continue
            if fused is None or not (all_enough or (enough is not None and enough[cut].all())):
                request.future.set_exception(self._shortage(request, present[:, at : at + request.rows], at))
            else:
                request.future.set_result(self._cut(request, fused, present, at, cut, alike))

    def _fuse(
        self, outputs: Array, present: NDArray[np.bool_], enough: NDArray[np.bool_] | None, at: int
    ) -> FusedArrays:
        """Fuse rows from ``at`` on that have enough members; all rows have all of them where ``enough`` is None."""
        rows = slice(at, at + present.shape[1])
        inputs = {name: column[rows] for name, column in self._columns.items()}
        output = self._revision.graph.output
        if enough is None:
            fused = output.fuse(outputs, None, inputs)
        else:
            fused = output.fuse_where(enough, outputs, present, inputs)
        behind = {name: coverage[rows] for name, coverage in self._fanout.input_coverage().items()}
        if not behind:
            return fused
        return replace(fused, coverage=fused.coverage * discount(self._revision.asked, fused.contributions, behind))

    def _enough(self, present: NDArray[np.bool_], at: int) -> NDArray[np.bool_]:
        """(B,) whether quorum and required members hold in each row."""
        asked: int | Array = len(self._fused)
        if not self._revision.graph.flat:
            asked = asked - np.sum([self._unasked(name, at, present.shape[1]) for name in self._fused], axis=0)
        return self._revision.graph.output.enough(present, asked)

    def _unasked(self, name: str, at: int, rows: int) -> NDArray[np.bool_]:
        """(B,) rows that a gate or a cascade did not ask of a member."""
        reply = self._replies.get(name)
        if reply is None or reply.status is None:
            return np.zeros(rows, dtype=np.bool_)
        unasked: NDArray[np.bool_] = reply.status[at : at + rows] == RowState.UNASKED
        return unasked

    def _there(self, name: str, present: NDArray[np.bool_], at: int) -> NDArray[np.bool_]:
        """(B,) rows that a member gave, of those that ``present`` is about, which start at ``at``."""
        if name in self._fused:
            there: NDArray[np.bool_] = present[self._revision.asked.index(name)]
            return there
        status = self._replies[name].status
        assert status is not None  # the flow has a state for every row
        upstream: NDArray[np.bool_] = status[at : at + present.shape[1]] == RowState.OK
        return upstream

    def _missing(self, present: NDArray[np.bool_], at: int) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
        """Why each member is missing from these rows, and which rows where it is not all of them."""
        reasons: dict[str, str] = {}
        rows: dict[str, tuple[int, ...]] = {}
        for name in self._told:
            there = self._there(name, present, at)
            if there.all():
                continue
            absent = np.flatnonzero(~(there | self._unasked(name, at, len(there))))
            if not len(absent):
                continue
            reasons[name] = self._reason(name, at + int(absent[0]))
            if len(absent) < len(there):
                rows[name] = tuple(int(row) for row in absent)
        return reasons, rows

    def _missing_alike(
        self, present: NDArray[np.bool_], everyone: bool
    ) -> tuple[tuple[str, ...], dict[str, str]] | None:
        """Members used, and why others are missing, where that is the same in all rows, as nearly always."""
        if not self._revision.graph.flat:
            return None
        if everyone:
            return self._told, {}
        absent = [name for name in self._fused if not self._there(name, present, 0).all()]
        for name in absent:
            reply = self._replies.get(name)
            if reply is not None and reply.status is not None:
                return None
        used = tuple(name for name in self._told if name not in absent)
        return used, {name: self._reason(name, 0) for name in absent}

    def _reason(self, name: str, row: int) -> str:
        reply = self._replies.get(name)
        if reply is None:
            return "deadline"
        if reply.status is None:
            return reply.reason
        state = RowState(int(reply.status[row]))
        return "shape" if state == RowState.OK else state.reason

    def _shortage(self, request: Request, present: NDArray[np.bool_], at: int) -> QuorateError:
        """Why a request's rows, from ``at`` on, have no answer."""
        fusion = self._revision.fusion
        reasons, _ = self._missing(present, at)
        row = self._row_without_finite_answer(present, at)
        if row is not None:
            members = [name for name in reasons if self._reason(name, at + row) == "nonfinite"]
            return nonfinite_row(row, members, request.inputs)
        fewest = int(present.sum(axis=0).min())
        needed = f"{min(fusion.quorum, len(self._fused))} of {len(self._fused)} members"
        if fusion.required:
            needed += f" and always {', '.join(fusion.required)}"
        missing = ", ".join(f"{name}:{reason}" for name, reason in reasons.items())
        kind = DeadlineError if "deadline" in reasons.values() else QuorumError
        return kind(needed, str(fewest), missing)

    def _row_without_finite_answer(self, present: NDArray[np.bool_], at: int) -> int | None:
        """The first row short of a quorum; None unless NaN and infinity alone are why each such row is."""
        answered = present.copy()
        for name in self._fused:
            reply = self._replies.get(name)
            if reply is not None and reply.status is not None:
                nonfinite = reply.status[at : at + present.shape[1]] == RowState.NONFINITE
                answered[self._revision.asked.index(name)] |= nonfinite
        short = ~self._enough(present, at)
        return int(np.flatnonzero(short)[0]) if short.any() and self._enough(answered, at)[short].all() else None

    def _cut(
        self,
        request: Request,
        fused: FusedArrays,
        present: NDArray[np.bool_],
        at: int,
        cut: slice,
        alike: tuple[tuple[str, ...], dict[str, str]] | None,
    ) -> Answer:
        rows: dict[str, tuple[int, ...]] = {}
        if alike is not None:
            used, reasons = alike
        else:
            mask = present[:, at : at + request.rows]
            reasons, rows = self._missing(mask, at)
            used = tuple(name for name in self._told if self._there(name, mask, at).any())
        abstained = () if fused.abstained is None else tuple(np.flatnonzero(fused.abstained[cut]).tolist())
        return Answer(
            fused.values[cut],
            self._revision.name,
            used,
            reasons,
            rows,
            fused.coverage[cut],
            abstained,
            self._explain(fused, at, cut) if request.explain else None,
            self._began - (request.deadline - request.allowed_s),
        )

    def _explain(self, fused: FusedArrays, at: int, cut: slice) -> Explanation:
        rows = slice(at, at + cut.stop - cut.start)
        outputs = {n: r.values[rows] for n, r in self._replies.items() if r.values is not None and r.values.size}
        zeros = np.zeros_like(fused.values[cut])
        outputs = {n: outputs.get(n, zeros) for n in self._told if n in outputs or n in self._fused}
        contributions = {n: fused.contributions[i, cut] for i, n in enumerate(self._revision.asked)}
        return Explanation(outputs, contributions)
