"""Requests in, batches out to the members, answers back: all that a fusion replica does, on one event loop."""

# B rows

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from quorate.deployments.engine.batch import Batch
from quorate.deployments.engine.member_inference import check_reply, infer_member
from quorate.deployments.engine.queue import RequestQueue
from quorate.deployments.engine.request import DEFAULT_PRIORITY, Answer, Request
from quorate.deployments.engine.revision import Revision
from quorate.deployments.engine.revision_set import RevisionSet, ServedRevision
from quorate.deployments.errors import DeadlineError, OverloadedError, UnavailableError
from quorate.deployments.metrics.outcomes import outcome_of
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.replica import Address, Peer
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.transport.tcp import ClientKeys
from quorate.fusion.errors import QuorateError

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
        revisions: those it answers by.
    """

    def __init__(
        self,
        spec: EnsembleSpec,
        folder: Path,
        node_id: str = "",
        keys: ClientKeys | None = None,
        apps: Mapping[str, str] | None = None,
    ):
        self.spec = spec
        self.metrics = Metrics(spec.name, spec.members)
        self._context: zmq.Context[Any] = zmq.Context()
        rows = spec.serving.max_queued_rows

        def connect(address: Address, on_lost: Callable[[Peer], None]) -> Peer:
            return Peer(self._context, address, node_id, keys, on_lost)

        self.revisions = RevisionSet(spec, folder, lambda name: Member(name, connect, rows), apps)
        self._queue = RequestQueue(rows)
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
        return self.revisions.live.revision

    @property
    def queued_rows(self) -> int:
        return self._queue.rows

    def reconcile(self) -> None:
        """Connect again where connections were lost; call this about once a second."""
        self.revisions.reconcile()
        for name, member in self.revisions.live.members.items():
            self.metrics.members(name, member.ready(), member.left_out())
        self._max_unanswered = UNANSWERED_PER_REPLICA * max(min(self.ready().values()), 1)

    def answerable(self) -> bool:
        """Whether enough members take calls for an answer."""
        ready = self.ready()
        return self.revision.graph.answerable(lambda name: ready[name] > 0)

    def ready(self, revision: str = "") -> dict[str, int]:
        """How many replicas of each member take calls, of the live revision or of a prepared one."""
        return self.revisions.get(revision).ready()

    def output(self, member: str) -> tuple[str, tuple[int, ...]] | None:
        """Datatype and shape of a row of what a member's model returns; None while no replica has said so."""
        return self.revisions.live.members[member].output()

    def prepare(self, spec: EnsembleSpec, folder: Path | None = None, apps: Mapping[str, str] | None = None) -> str:
        """Build a revision without using it yet; see ``RevisionSet.prepare``."""
        served = self.revisions.prepare(spec, folder, apps)
        self.metrics.know(spec.members)
        return served.revision.name

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
        chosen = revision or self.revisions.choose(members)
        served = self.revisions.get(chosen)
        longest = served.revision.fusion.deadline_s
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
            self._count(outcome_of(error), served, started)
            raise
        finally:
            self._batches.pop(request, None)
        self._count("degraded" if answer.degraded else "full", served, started, answer.members_missing.values())
        self.metrics.total(time.monotonic() - started)
        return answer

    def _count(self, outcome: str, served: ServedRevision, started: float, missing: Collection[str] = ()) -> None:
        self.metrics.answered(outcome, missing)
        self.revisions.count(served, outcome, time.monotonic() - started)

    async def infer_member(
        self, name: str, inputs: Mapping[str, Array], deadline_s: float | None = None
    ) -> MemberReply:
        """Ask one member for what the spec calls its output; every row of the reply is good.

        Raises:
            UnavailableError: the member is not there, or could not answer.
            DeadlineError: not in time.
            NonFiniteRowError: its answer to a row is not finite.
        """
        allowed_s = min(deadline_s or np.inf, self.revision.fusion.deadline_s)
        read = {source: inputs[source] for source in self.revision.spec.members[name].inputs}
        overloaded = OverloadedError(f"member '{name}'", self.spec.serving.max_queued_rows, 1.0)
        reply = await infer_member(self.revisions.live.members[name], read, allowed_s, overloaded)
        self.metrics.member_replied(name, reply)
        check_reply(name, reply, inputs)
        return reply

    def close(self) -> None:
        """Let go of all members; what still waits ends as an error."""
        if self._alarm is not None:
            self._alarm.cancel()
        for request in self._queue.take_all():
            _fail(request, UnavailableError("the server is stopping; retry"))
        self.revisions.close()
        self._context.term()

    def _submit(self, request: Request, now: float) -> None:
        for shed in self._queue.add(request, now):
            _fail(shed, self._queue.overloaded())
        self._set_alarm(request.deadline)
        self._schedule()

    def _schedule(self) -> None:
        if self._queue and not self._flush_due and self._unanswered < self._max_unanswered:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        while self._queue and self._unanswered < self._max_unanswered:
            self._start_batch(self._next_requests())
        self.metrics.queued_rows.set(self._queue.rows)

    def _start_batch(self, requests: list[Request]) -> None:
        self._unanswered += 1
        served = self.revisions.get(requests[0].revision)
        batch = Batch(requests, served.revision, served.members, self.metrics, self._release)
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
        requests, arrived = self._queue.take(self.spec.serving.max_batch_size, self._join)
        self.metrics.batched(sum(request.rows for request in requests), time.monotonic() - arrived)
        return requests

    def _join(self, request: Request, first: Request) -> bool:
        """Where fusions have their share of the deadline, a batch has one: nobody is degraded by another's haste."""
        flat = self.revisions.get(first.revision).revision.graph.flat
        return request.joins(first) and (flat or request.allowed_s == first.allowed_s)

    def _release(self) -> None:
        self._unanswered -= 1
        self._schedule()

    def _abandon(self, request: Request) -> None:
        """The client is gone."""
        batch = self._batches.get(request)
        if batch is not None:
            batch.abandon(request)
        else:
            self._queue.remove(request)

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
        for request in self._queue.take_expired(time.monotonic()):
            _fail(request, DeadlineError("a free place in the queue", "none in time"))
        deadline = self._queue.next_deadline()
        if deadline is not None:
            self._set_alarm(deadline)


def _fail(request: Request, error: QuorateError) -> None:
    if not request.future.done():
        request.future.set_exception(error)
