"""Requests in, batches out to the members, answers back: all that a fusion replica does, on one event loop."""

# B rows

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.engine.accounts import Accounts
from quorate.deployments.engine.batch import Batch
from quorate.deployments.engine.member_inference import check_reply, infer_member
from quorate.deployments.engine.requests.answer_ids import AnswerIds
from quorate.deployments.engine.requests.deadlines import Deadlines
from quorate.deployments.engine.requests.open_requests import OpenRequests, fail, told
from quorate.deployments.engine.requests.queue import RequestQueue
from quorate.deployments.engine.requests.queue_alarm import QueueAlarm
from quorate.deployments.engine.requests.request import DEFAULT_PRIORITY, Answer, Request, Tell
from quorate.deployments.engine.requests.slots import Slots
from quorate.deployments.engine.revision import Revision
from quorate.deployments.engine.revision_set import RevisionSet, ServedRevision
from quorate.deployments.engine.several_outputs import Answers, SeveralBatches
from quorate.deployments.errors import RequestError, UnavailableError
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.limits import Limits
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.replica import Address, Peer
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.shared_replica import Connections, Inside
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.telemetry.spread_telemetry import SpreadTelemetry
from quorate.deployments.telemetry.tracer import RequestTrace, Tracer
from quorate.fusion.errors import FusionError, QuorateError

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
        tracer: which requests are traced.
        telemetry: what is traced and logged, by the members' replicas too.
        revisions: those it answers by.
        answers: what answers are called, and who keeps what they were fused from.
    """

    def __init__(
        self,
        spec: EnsembleSpec,
        folder: Path,
        node_id: str = "",
        tls: ssl.SSLContext | None = None,
        apps: Mapping[str, str] | None = None,
        inside: Callable[[str], Inside | None] = lambda replica: None,
    ):
        """Args:
        node_id, tls, inside: see ``Connections``.
        """
        self.spec = spec
        share_port = spec.serving.replicas.max > 1
        self.metrics = Metrics(spec.name, spec.members, spec.outputs, share_port=share_port)
        self.tracer, self.answers = Tracer(spec.name, node_id), AnswerIds()
        self.telemetry = SpreadTelemetry(self.tracer, self._replicas)
        limits = Limits(spec.serving.max_queued_rows, spec.serving.max_queued_bytes)

        own, connections = secrets.token_hex(8), Connections(node_id, tls, inside)

        def connect(name: str, address: Address, on_lost: Callable[[Peer], None]) -> Peer:
            peer = connections.connect(name, address, on_lost)
            self.telemetry.greet(peer)
            return peer

        def member(name: str) -> Member:
            return Member(name, partial(connect, name), limits, node_id, own)

        self.revisions = RevisionSet(spec, folder, member, apps, self.metrics.inference_s)
        self._queue = RequestQueue(*limits)
        # When asked: nothing is done as the queue grows while all places for batches are taken.
        state = self.metrics.state
        state.queued_rows, state.queue_limit_rows = (lambda: self._queue.rows), limits.rows
        state.revision, state.ready = (lambda: self.revision.name), self.answerable
        state.thinned_s = self._thinned_s
        state.processes = lambda: {name: m.process() for name, m in self.revisions.live.members.items() if m.ready()}
        self._slots = Slots(UNANSWERED_PER_REPLICA, self._schedule)
        self._flush_due = False
        self._alarm = QueueAlarm(self._queue)
        self._loop = asyncio.get_running_loop()
        self._open: OpenRequests[Batch | SeveralBatches] = OpenRequests(
            Accounts(self.metrics, self.revisions).ended, self._leave_batch
        )
        self._deadlines: Deadlines[Batch] = Deadlines(Batch.settle)

    @property
    def revision(self) -> Revision:
        """The live one."""
        return self.revisions.live.revision

    def _replicas(self) -> Iterator[Peer]:
        return (peer for member in self.revisions.members() for peer in member.replicas.values())

    def _thinned_s(self) -> Mapping[str, float]:
        thinning = self.revisions.live.thinning
        return {} if thinning is None else thinning.left_out_s()

    @property
    def queued_rows(self) -> int:
        return self._queue.rows

    @property
    def loaded(self) -> bool:
        """Whether requests wait for a batch, or would have to."""
        return bool(self._queue.rows) or not self._slots.free()

    @property
    def unanswered_batches(self) -> int:
        """How many are out that no member has answered yet."""
        return self._slots.taken

    def reconcile(self) -> Collection[str]:
        """Connect again where connections were lost; call this about once a second.

        Returns:
            Applications of members that no revision asks any more: they need not be found again.
        """
        closed = self.revisions.reconcile()
        for _, name in closed:
            if not self.revisions.asks(name):
                self.metrics.forget(name)
        for name, member in self.revisions.live.members.items():
            self.metrics.members(name, member.ready(), member.left_out())
        self._slots.limit = UNANSWERED_PER_REPLICA * max(min(self.ready().values()), 1)
        return {app for app, _ in closed}

    def answerable(self) -> bool:
        """Whether enough members take calls for an answer."""
        ready, revision = self.ready(), self.revision
        views = revision.views.values() or (revision,)
        return any(view.graph.answerable(lambda name: ready[name] > 0) for view in views)

    def ready(self, revision: str = "") -> dict[str, int]:
        """How many replicas of each member take calls, of the live revision or of a prepared one."""
        return (self.revisions.get(revision) if revision else self.revisions.live).ready()

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
        served: ServedRevision | None = None,
        trace: RequestTrace | None = None,
        rehearsal: bool = False,
    ) -> Answer:
        """Ask the ensemble.

        Args:
            inputs: each request input, (B, *shape), of the spec's dtype.
            deadline_s: an answer is due this long from now; the spec's when None, and never more than that.
            explain: add each member's output and contribution.
            members: ask only these.
            priority: from 1, the highest; the queue answers these first, and sheds the lowest when it is full.
            served: the revision that is to answer; chosen here when None.
            trace: that the request belongs to.
            rehearsal: nobody asked it: nothing of it is recorded.

        Raises:
            RequestError: rows are not as wide as the revision reads them.
            OverloadedError: the queue is full.
            DeadlineError: the deadline passed before the quorum was in.
            QuorumError: too few members can answer.
            NonFiniteRowError: they can, but not with finite numbers.
        """
        served = served or self.revisions.choose(named=members is not None)
        submit = partial(
            self.submit, inputs, served, deadline_s, explain, members, priority, trace, rehearsal=rehearsal
        )  # fmt: skip
        answer: Answer = await told(submit, self.abandon)
        return answer

    def submit(
        self,
        inputs: Mapping[str, Array],
        served: ServedRevision,
        deadline_s: float | None,
        explain: bool,
        members: tuple[str, ...] | None,
        priority: int,
        trace: RequestTrace | None,
        tell: Tell,
        views: Mapping[str, ServedRevision] | None = None,
        rehearsal: bool = False,
    ) -> Request:
        """Ask the ensemble; arguments and errors are those of ``infer``.

        Args:
            tell: called once, on a later turn of the event loop, unless the request is abandoned before.
            views: of several outputs those that are asked for.
        """
        now, asked = time.monotonic(), (served,) if views is None else views.values()
        longest_s = served.revision.deadline_s if views is None else max([one.revision.deadline_s for one in asked])
        allowed_s = longest_s if deadline_s is None else min(deadline_s, longest_s)
        outputs = () if views is None else tuple(views)
        request = Request(
            inputs, served, now + allowed_s, explain, members, allowed_s, priority, outputs, trace, tell, rehearsal
        )  # fmt: skip
        self._enter(request, now, asked)
        return request

    async def infer_outputs(
        self,
        outputs: Sequence[str],
        inputs: Mapping[str, Array],
        served: ServedRevision,
        deadline_s: float | None = None,
        explain: bool = False,
        members: tuple[str, ...] | None = None,
        priority: int = DEFAULT_PRIORITY,
        trace: RequestTrace | None = None,
        rehearsal: bool = False,
    ) -> Answers:
        """Ask for several outputs of a revision that has them; what is not said here is as in ``infer``.

        Args:
            members: ask only these; an output that none of them is fused into is left out.

        Raises:
            QuorateError: what kept the first of them from an answer, where none has one.
        """
        views = {name: served.views[name] for name in outputs}
        if members is not None:
            views = {name: view for name, view in views.items() if set(members) & set(view.revision.asked)}
        submit = partial(
            self.submit, inputs, served, deadline_s, explain, members, priority, trace, views=views, rehearsal=rehearsal
        )  # fmt: skip
        answers: Answers = await told(submit, self.abandon)
        return answers

    def abandon(self, request: Request) -> None:
        """The client is gone; nothing happens once it has been told."""
        if request in self._open:
            self._leave_batch(request)
            self._open.drop(request)
            self.metrics.answered("cancelled")

    def _enter(self, request: Request, now: float, asked: Iterable[ServedRevision]) -> None:
        """A request is here, and ends by a call of its ``tell``, whatever becomes of it."""
        self._open.enter(request)
        try:
            for one in asked:
                if one.revision.graph.checks_rows:
                    one.revision.graph.check(request.inputs)
            self._submit(request, now)
        except QuorateError as error:
            # Told, not raised: its frames hold the request, and that what is told, which would be a ring.
            fail(request, error.with_traceback(None))
        except BaseException:
            self._open.drop(request)
            raise

    async def infer_member(
        self,
        name: str,
        inputs: Mapping[str, Array],
        deadline_s: float | None = None,
        trace: RequestTrace | None = None,
    ) -> MemberReply:
        """Ask one member for what the spec calls its output; every row of the reply is good.

        Raises:
            UnavailableError: the member is not there, or could not answer.
            DeadlineError: not in time.
            NonFiniteRowError: its answer to a row is not finite.
        """
        self.tracer.draw()
        reply = await infer_member(self.revisions.live, name, inputs, deadline_s, trace)
        self.metrics.member_replied(name, reply)
        check_reply(name, reply, inputs)
        return reply

    def close(self) -> None:
        """Let go of all members; what still waits ends as an error."""
        self._alarm.close()
        for request in self._queue.take_all():
            fail(request, UnavailableError("the server is stopping; retry"))
        self.revisions.close()
        self._deadlines.close()
        self._open.close()
        self.tracer.close()

    def _submit(self, request: Request, now: float) -> None:
        for shed in self._queue.add(request, now):
            fail(shed, self._queue.overloaded())
        self._alarm.set(request.deadline)
        self._schedule()

    def _schedule(self) -> None:
        if not self._flush_due and self._queue.waiting and self._slots.free():
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self._open.hold()
        try:
            while self._queue.waiting and self._slots.free():
                self._start_batch(self._next_requests())
            self.tracer.draw()
        finally:
            self._open.tell()

    def _start_batch(self, requests: list[Request]) -> None:
        """Send requests on their way. What keeps them from it is their error, and leaves nothing behind."""
        served = requests[0].served
        try:
            with self._slots.take() as slot:
                batch = self._batch(requests, served, slot.release)
                self._open.travel(requests, batch)
                batch.start()
        except FusionError as error:  # the rule cannot read these rows
            self._refuse(requests, RequestError(str(error)))
        except Exception:
            _log.exception("a batch could not be sent")
            self._refuse(requests, QuorateError("the rows could not be sent to the members; the server's log says why"))

    def _batch(
        self, requests: list[Request], served: ServedRevision, on_first: Callable[[], None]
    ) -> Batch | SeveralBatches:
        self.answers.name(requests)
        if requests[0].outputs:
            return SeveralBatches(requests, served, self.metrics, on_first, self._deadlines)
        members = served.asked_now() if requests[0].members is None else served.members
        return Batch(requests, served.revision, members, self.metrics, on_first, self._deadlines)

    def _refuse(self, requests: list[Request], error: QuorateError) -> None:
        """End requests whose batch could not start, and what of it has started."""
        for request in requests:
            fail(request, error)
            self._leave_batch(request)

    def _next_requests(self) -> list[Request]:
        """The oldest requests that can travel together."""
        waiting = self._queue.rows
        requests, arrived = self._queue.take(self.spec.serving.max_batch_size, self._join)
        self.metrics.batched(waiting - self._queue.rows, time.monotonic() - arrived)
        return requests

    def _join(self, request: Request, first: Request) -> bool:
        """Where inner fusions, or outputs, have a share of the deadline, all requests of a batch must have the same."""
        flat = first.served.revision.graph.flat and not first.outputs
        return request.joins(first) and (flat or request.allowed_s == first.allowed_s)

    def _leave_batch(self, request: Request) -> None:
        """Nobody waits for it, in the queue or in its batch."""
        batch = self._open.batch(request)
        if batch is not None:
            batch.abandon(request)
        else:
            self._queue.remove(request)
