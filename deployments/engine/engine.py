"""The heart of a fusion replica: requests in, batches out to the members, answers back, all on one event loop."""

# B rows

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.batch import Batch
from quorate.deployments.engine.queue import Waiting
from quorate.deployments.engine.request import DEFAULT_PRIORITY, Answer, Request
from quorate.deployments.engine.revision import Revision
from quorate.deployments.engine.revision_set import Lane, Lanes
from quorate.deployments.engine.row_errors import nonfinite_row
from quorate.deployments.errors import DeadlineError, OverloadedError, RequestError, UnavailableError
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.member import Member, MemberReply
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.transport.messages import Kind, Payload, RowStatus
from quorate.fusion.errors import QuorateError, QuorumError

Array = NDArray[Any]
_log = logging.getLogger(__name__)

# Batches that no member has answered yet, for each replica of the member that has fewest. While they are out, requests
# gather for the next: larger batches under load, and a slow member holds back nobody, since the first reply of the
# fastest frees the place.
UNANSWERED_PER_REPLICA = 2


class Engine:
    """Answers requests with the members it can reach. Make and use it on one event loop.

    Members are known by their applications' names, by their own where none are given.

    Attributes:
        spec: the ensemble as it was started; ``revision.spec`` is the live one.
        metrics: what happened so far.
        lanes: its revisions.
    """

    def __init__(
        self,
        spec: EnsembleSpec,
        folder: Path,
        node_id: str = "",
        tls: ssl.SSLContext | None = None,
        apps: Mapping[str, str] | None = None,
    ):
        self.spec = spec
        self.metrics = Metrics(spec.name, spec.members)
        rows = spec.serving.max_queued_rows
        self.lanes = Lanes(spec, folder, lambda name: Member(name, node_id, tls, rows), apps)
        self._queue = Waiting()
        self._queued_rows = 0
        self._unanswered = 0
        self._max_unanswered = UNANSWERED_PER_REPLICA
        self._flush_due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._batches: dict[Request, Batch] = {}

    @property
    def revision(self) -> Revision:
        """The live one."""
        return self.lanes.live.revision

    @property
    def queued_rows(self) -> int:
        return self._queued_rows

    def reconcile(self) -> None:
        """Connect again where a connection was lost; call this about once a second."""
        self.lanes.reconcile()
        for name, member in self.lanes.live.members.items():
            self.metrics.members(name, member.ready(), member.left_out())
        self._max_unanswered = UNANSWERED_PER_REPLICA * max(min(self.ready().values()), 1)

    def answerable(self) -> bool:
        """Whether enough members take calls for an answer."""
        ready = self.ready()
        return self.revision.graph.answerable(lambda name: ready[name] > 0)

    def ready(self, revision: str = "") -> dict[str, int]:
        """How many replicas of each member take calls, of the live revision or of a prepared one."""
        return self.lanes.lane(revision).ready()

    def output(self, member: str) -> tuple[str, tuple[int, ...]] | None:
        """Datatype and shape of a row of what a member's model returns; None while no replica has said so."""
        return self.lanes.live.members[member].output()

    def prepare(self, spec: EnsembleSpec, folder: Path | None = None, apps: Mapping[str, str] | None = None) -> str:
        """Build a revision without using it yet; see ``Lanes.prepare``."""
        lane = self.lanes.prepare(spec, folder, apps)
        self.metrics.know(spec.members)
        return lane.revision.name

    async def infer(
        self,
        inputs: Mapping[str, Array],
        deadline_s: float | None = None,
        explain: bool = False,
        members: tuple[str, ...] | None = None,
        priority: int = DEFAULT_PRIORITY,
        revision: str = "",
    ) -> Answer:
        """Ask the ensemble.

        Args:
            inputs: each request input, (B, *shape), of the spec's dtype.
            deadline_s: an answer is due this long from now; the spec's when None, and never more than that.
            explain: add each member's output and contribution.
            members: ask only these.
            priority: from 1, the highest; the queue answers these first, and sheds the lowest when it is full.
            revision: by this prepared one instead of the live one.

        Raises:
            OverloadedError: the queue is full.
            DeadlineError: the deadline passed before the quorum was in.
            QuorumError: too few members can answer.
            NonFiniteRowError: they can, but not with finite numbers.
        """
        started = time.monotonic()
        chosen = revision or self.lanes.choose(members)
        lane = self.lanes.lane(chosen)
        longest = lane.revision.fusion.deadline_s
        allowed = longest if deadline_s is None else min(deadline_s, longest)
        request = Request(inputs, started + allowed, explain, members, allowed, priority, chosen)
        try:
            self._submit(request, started)
            answer = await request.future
        except asyncio.CancelledError:
            self._abandon(request)
            self.metrics.answered("cancelled")
            raise
        except QuorateError as error:
            self._count(_outcome(error), lane, started)
            raise
        finally:
            self._batches.pop(request, None)
        self._count("degraded" if answer.degraded else "full", lane, started, answer.members_missing.values())
        self.metrics.total(time.monotonic() - started)
        return answer

    def _count(self, outcome: str, lane: Lane, started: float, missing: Collection[str] = ()) -> None:
        self.metrics.answered(outcome, missing)
        self.lanes.watch(lane, outcome, time.monotonic() - started)

    async def infer_member(
        self, name: str, inputs: Mapping[str, Array], deadline_s: float | None = None
    ) -> MemberReply:
        """Ask one member for what the spec calls its output; every row of the reply is good.

        Raises:
            UnavailableError: the member is not there, or could not answer.
            DeadlineError: not in time.
            NonFiniteRowError: its answer to a row is not finite.
        """
        allowed = min(deadline_s or np.inf, self.revision.fusion.deadline_s)
        tensors = [inputs[source] for source in self.revision.spec.members[name].inputs]
        done: asyncio.Future[MemberReply] = self._loop.create_future()
        member = self.lanes.live.members[name]

        def on_reply(reply: MemberReply) -> None:
            if not done.done():
                done.set_result(reply)

        ask = member.ask(Kind.CALL, Payload.of(tensors), time.monotonic() + allowed, on_reply)
        if ask is None and member.reason == "shed":
            raise OverloadedError(f"member '{name}'", self.spec.serving.max_queued_rows, 1.0)
        if ask is None:
            raise UnavailableError(f"no replica of member '{name}' takes calls ({member.reason}); retry later")
        try:
            reply = await asyncio.wait_for(done, allowed)
        except asyncio.TimeoutError:
            ask.give_up()
            raise DeadlineError("1 of 1 members", "0", f"{name}:deadline") from None
        except asyncio.CancelledError:
            ask.give_up("gone")
            raise
        self.metrics.member_replied(name, reply)
        if reply.values is None or reply.status is None:
            raise UnavailableError(f"member '{name}' could not answer ({reply.reason}); retry later")
        bad = np.flatnonzero(reply.status)
        if len(bad):
            if (reply.status[bad] == RowStatus.NONFINITE).all():
                raise nonfinite_row(int(bad[0]), [name], inputs)
            reason = RowStatus(int(reply.status[bad[0]])).name.lower()
            raise UnavailableError(f"member '{name}' failed on row {bad[0]} ({reason}); check the input")
        return reply

    def close(self) -> None:
        """Let go of all members; what still waits ends as an error."""
        if self._alarm is not None:
            self._alarm.cancel()
        for request in self._queue:
            if not request.future.done():
                request.future.set_exception(UnavailableError("the server is stopping; retry"))
        self._queue.clear()
        self._queued_rows = 0
        self.lanes.close()

    def _submit(self, request: Request, now: float) -> None:
        limit = self.spec.serving.max_queued_rows
        if self._queued_rows + request.rows > limit and self._queue:
            self._make_room(request, limit)
        self._queue[request] = now
        self._queued_rows += request.rows
        self._set_alarm(request.deadline)
        self._schedule()

    def _make_room(self, request: Request, limit: int) -> None:
        """Shed requests of lower priority for this one; where they are too few, it is the one that goes."""
        surplus, shed = self._queued_rows + request.rows - limit, []
        for other in self._queue.below(request.priority):
            if surplus <= 0:
                break
            shed.append(other)
            surplus -= other.rows
        if surplus > 0:
            raise OverloadedError("the queue", limit, 1.0)
        for other in shed:
            self._abandon(other)
            if not other.future.done():
                other.future.set_exception(OverloadedError("the queue", limit, 1.0))

    def _schedule(self) -> None:
        if self._queue and not self._flush_due and self._unanswered < self._max_unanswered:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        while self._queue and self._unanswered < self._max_unanswered:
            self._start_batch(self._next_requests())
        self.metrics.queued_rows.set(self._queued_rows)

    def _start_batch(self, requests: list[Request]) -> None:
        self._unanswered += 1
        lane = self.lanes.lane(requests[0].revision)
        batch = Batch(requests, lane.revision, lane.members, self.metrics, self._release)
        for request in requests:
            self._batches[request] = batch
        try:
            batch.start()
        except Exception:
            _log.exception("a batch could not be sent")
            batch.fail(requests, QuorateError("the rows could not be sent to the members; the server's log says why"))
            for request in requests:
                batch.abandon(request)

    def _next_requests(self) -> list[Request]:
        """The oldest requests that can travel together."""
        first, arrived = self._queue.pop_first()
        chosen, rows = [first], first.rows
        for request in self._queue:
            if rows + request.rows > self.spec.serving.max_batch_size or not self._join(request, first):
                break
            chosen.append(request)
            rows += request.rows
        for request in chosen[1:]:
            del self._queue[request]
        self._queued_rows -= rows
        self.metrics.batched(rows, time.monotonic() - arrived)
        return chosen

    def _join(self, request: Request, first: Request) -> bool:
        """Where fusions have their share of the deadline, a batch has one: nobody is degraded by another's haste."""
        flat = self.lanes.lane(first.revision).revision.graph.flat
        return request.joins(first) and (flat or request.allowed_s == first.allowed_s)

    def _release(self) -> None:
        self._unanswered -= 1
        self._schedule()

    def _abandon(self, request: Request) -> None:
        """The client is gone."""
        batch = self._batches.get(request)
        if batch is not None:
            batch.abandon(request)
        elif self._queue.pop(request) is not None:
            self._queued_rows -= request.rows

    def _set_alarm(self, deadline: float) -> None:
        """Wake up for requests whose deadline passes while they still queue."""
        if self._alarm is not None and deadline < self._alarm_at:
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None:
            self._alarm_at = deadline
            self._alarm = self._loop.call_later(max(deadline - time.monotonic(), 0.0), self._expire_queued)

    def _expire_queued(self) -> None:
        self._alarm = None
        now = time.monotonic()
        for request in [request for request in self._queue if request.deadline <= now]:
            del self._queue[request]
            self._queued_rows -= request.rows
            if not request.future.done():
                request.future.set_exception(DeadlineError("a free place in the queue", "none in time"))
        if self._queue:
            self._set_alarm(min(request.deadline for request in self._queue))


def _outcome(error: QuorateError) -> str:
    if isinstance(error, OverloadedError):
        return "overloaded"
    if isinstance(error, DeadlineError):
        return "deadline"
    if isinstance(error, RequestError):
        return "invalid"
    return "quorum" if isinstance(error, QuorumError) else "error"
