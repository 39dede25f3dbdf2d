"""Requests that travel together: one fan-out to the members, one fusion, each request with its own deadline."""

# M members asked, B batch, C classes

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.framing import Kind, RowStatus
from quorate.deployments.members import Ask, Member, MemberReply
from quorate.deployments.metrics import Metrics
from quorate.deployments.requests import Answer, Explanation, Request
from quorate.deployments.revisions import Revision
from quorate.fusion.base import Fused
from quorate.fusion.errors import DeadlineError, QuorateError, QuorumError

Array = NDArray[Any]
_log = logging.getLogger(__name__)

# A timer may fire this much early; requests due within it are answered together.
SLACK_S = 0.0005


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
        self._open = list(requests)
        self._revision, self._members, self._metrics, self._on_first = revision, members, metrics, on_first
        chosen = requests[0].members
        self._asked = revision.asked if chosen is None else tuple(n for n in revision.asked if n in chosen)
        self._rows = sum(request.rows for request in requests)
        self._starts: dict[Request, int] = {}
        at = 0
        for request in requests:
            self._starts[request] = at
            at += request.rows
        self._replies: dict[str, MemberReply] = {}
        self._asks: dict[str, Ask] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._released = False

    def start(self) -> None:
        """Send the rows to every member."""
        expires = max(request.deadline for request in self._open)
        columns = {
            name: np.concatenate([r.inputs[name] for r in self._open]) if len(self._open) > 1 else array
            for name, array in self._open[0].inputs.items()
        }
        for name in self._asked:
            tensors = [columns[source] for source in self._revision.spec.members[name].inputs]
            member = self._members[name]
            ask = member.ask(Kind.CALL_PROBABILITIES, tensors, self._rows, expires, partial(self._take, name))
            if ask is None:
                self._replies[name] = MemberReply(None, None, member.reason)
                self._metrics.member_replied(name, self._replies[name])
            else:
                self._asks[name] = ask
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

    def _take(self, name: str, reply: MemberReply) -> None:
        self._replies[name] = reply
        self._metrics.member_replied(name, reply)
        self._release()
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
        if len(self._replies) < len(self._asked):
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
        late = {name: ask for name, ask in self._asks.items() if name not in self._replies}
        for name, ask in late.items():
            reason = "deadline" if ask.expires <= time.monotonic() + SLACK_S else "gone"
            ask.give_up(reason)
            if reason == "deadline":
                self._metrics.member_replied(name, MemberReply(None, None, "deadline"))
        self._asks.clear()
        self._release()

    def _answer(self, due: Sequence[Request]) -> None:
        started = time.perf_counter()
        try:
            outputs, present = self._gather()
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
        enough = self._enough(present[:, start : start + rows])
        fused: Fused | None = None
        if outputs is not None and enough.any():
            try:
                fused = self._fuse(outputs[:, start : start + rows], present[:, start : start + rows], enough)
            except QuorateError as error:
                if len(due) == 1:
                    self.fail(due, error)
                else:  # the rule refuses some row: only the request that holds it has to go without
                    for request in due:
                        self._answer_rows([request], outputs, present, self._starts[request], request.rows)
                return
        whole = self._missing_alike(present[:, start : start + rows])
        all_enough = bool(enough.all())
        for request in due:
            at = self._starts[request]
            cut = slice(at - start, at - start + request.rows)
            if request.future.done():
                continue
            if fused is None or not (all_enough or enough[cut].all()):
                request.future.set_exception(self._shortage(present[:, at : at + request.rows]))
            else:
                request.future.set_result(self._cut(request, fused, outputs, present, at, cut, whole))

    def _fuse(self, outputs: Array, present: NDArray[np.bool_], enough: NDArray[np.bool_]) -> Fused:
        if enough.all():
            return self._revision.fuse(outputs, present)
        # A rule may refuse rows without a quorum: fuse the others, and leave zeros where nobody will look.
        part = self._revision.fuse(np.ascontiguousarray(outputs[:, enough]), np.ascontiguousarray(present[:, enough]))
        at = torch.from_numpy(np.flatnonzero(enough))
        rows = len(enough)
        return Fused(
            part.values.new_zeros(rows, *part.values.shape[1:]).index_copy_(0, at, part.values),
            part.contributions.new_zeros(len(part.contributions), rows).index_copy_(1, at, part.contributions),
            part.coverage.new_zeros(rows).index_copy_(0, at, part.coverage),
            None if part.abstained is None else part.abstained.new_zeros(rows).index_copy_(0, at, part.abstained),
        )

    def _gather(self) -> tuple[NDArray[np.float32] | None, NDArray[np.bool_]]:
        """All members' outputs (M, B, C), absent rows zero, and who is present (M, B), in the rule's order."""
        asked = self._revision.asked
        present = np.zeros((len(asked), self._rows), dtype=np.bool_)
        known = [(i, self._replies[n]) for i, n in enumerate(asked) if n in self._replies]
        usable = [(i, r) for i, r in known if r.values is not None and r.values.ndim == 2 and r.values.shape[1]]
        if not usable:
            return None, present
        widths = [r.values.shape[1] for _, r in usable if r.values is not None]
        width = max(set(widths), key=lambda w: (widths.count(w), w))
        outputs = np.zeros((len(asked), self._rows, width), dtype=np.float32)
        for i, reply in usable:
            if reply.values is not None and reply.status is not None and reply.values.shape[1] == width:
                outputs[i] = reply.values
                present[i] = reply.status == RowStatus.OK
        return outputs, present

    def _enough(self, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(B,) whether quorum and required members hold in each row."""
        fusion = self._revision.fusion
        enough: NDArray[np.bool_] = present.sum(axis=0) >= min(fusion.quorum, len(self._asked))
        for name in fusion.required:
            if name in self._revision.asked:
                enough = enough & present[self._revision.asked.index(name)]
        return enough

    def _missing(self, present: NDArray[np.bool_], at: int = 0) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
        """Why each member is missing from these rows, and which rows where it is not all of them."""
        reasons: dict[str, str] = {}
        rows: dict[str, tuple[int, ...]] = {}
        for i, name in enumerate(self._revision.asked):
            if name not in self._asked or present[i].all():
                continue
            absent = np.flatnonzero(~present[i])
            reasons[name] = self._reason(name, at + int(absent[0]))
            if len(absent) < present.shape[1]:
                rows[name] = tuple(int(row) for row in absent)
        return reasons, rows

    def _missing_alike(self, present: NDArray[np.bool_]) -> dict[str, str] | None:
        """Who is missing, where that is the same in all rows, as nearly always; looked up once for all requests."""
        absent = [name for i, name in enumerate(self._revision.asked) if name in self._asked and not present[i].all()]
        for name in absent:
            reply = self._replies.get(name)
            if reply is not None and reply.status is not None:
                return None
        return {name: self._reason(name, 0) for name in absent}

    def _reason(self, name: str, row: int) -> str:
        reply = self._replies.get(name)
        if reply is None:
            return "deadline"
        if reply.status is None:
            return reply.reason
        status = RowStatus(int(reply.status[row]))
        return "shape" if status == RowStatus.OK else status.name.lower()

    def _shortage(self, present: NDArray[np.bool_]) -> QuorumError:
        fusion = self._revision.fusion
        reasons, _ = self._missing(present)
        fewest = int(present.sum(axis=0).min())
        needed = f"{min(fusion.quorum, len(self._asked))} of {len(self._asked)} members"
        if fusion.required:
            needed += f" and always {', '.join(fusion.required)}"
        missing = ", ".join(f"{name}:{reason}" for name, reason in reasons.items())
        kind = DeadlineError if "deadline" in reasons.values() else QuorumError
        return kind(needed, str(fewest), missing)

    def _cut(
        self,
        request: Request,
        fused: Fused,
        outputs: Array | None,
        present: NDArray[np.bool_],
        at: int,
        cut: slice,
        whole: dict[str, str] | None,
    ) -> Answer:
        rows: dict[str, tuple[int, ...]] = {}
        if whole is not None:
            reasons = whole
            used = tuple(name for name in self._asked if name not in whole)
        else:
            mask = present[:, at : at + request.rows]
            reasons, rows = self._missing(mask, at)
            used = tuple(n for i, n in enumerate(self._revision.asked) if mask[i].any())
        abstained = () if fused.abstained is None else tuple(np.flatnonzero(fused.abstained[cut].numpy()).tolist())
        explanation = None
        if request.explain and outputs is not None:
            explanation = Explanation(
                {n: outputs[i, at : at + request.rows] for i, n in enumerate(self._revision.asked)},
                {n: fused.contributions[i, cut].numpy() for i, n in enumerate(self._revision.asked)},
            )
        return Answer(
            fused.values[cut].numpy(),
            self._revision.name,
            used,
            reasons,
            rows,
            fused.coverage[cut].numpy(),
            abstained,
            explanation,
        )
