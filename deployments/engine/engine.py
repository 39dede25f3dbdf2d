"""Requests in, batches out to the members, answers back: all that a fusion replica does, on one event loop."""

# B rows

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.batch import Batch
from quorate.deployments.engine.deadlines import Deadlines
from quorate.deployments.engine.member_inference import check_reply, infer_member
from quorate.deployments.engine.queue import RequestQueue
from quorate.deployments.engine.request import DEFAULT_PRIORITY, Answer, Promise, Request, Tell, nobody
from quorate.deployments.engine.revision import Revision
from quorate.deployments.engine.revision_set import RevisionSet, ServedRevision
from quorate.deployments.engine.several_outputs import Answers, SeveralBatches
from quorate.deployments.engine.slots import Slots
from quorate.deployments.errors import DeadlineError, OverloadedError, RequestError, UnavailableError
from quorate.deployments.metrics.outcomes import outcome_of
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.limits import Limits
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.replica import Address, Peer
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.shared_replica import Connections, Inside
from quorate.deployments.routing.terms import FAIR_SHARE, Terms
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.telemetry.batch_trace import direct_call
from quorate.deployments.telemetry.settings import LogSettings, Telemetry
from quorate.deployments.telemetry.tracer import RequestTrace, Tracer
from quorate.fusion.errors import FusionError, QuorateError

Array = NDArray[Any]
_log = logging.getLogger(__name__)

# Batches that no member has answered yet, for each replica of the member that has fewest. While they are out, requests
# gather for the next: larger batches under load, and a slow member holds back nobody, since the first reply of the
# fastest frees the place.
UNANSWERED_PER_REPLICA = 2
# Whatever else fails, a request ends this long after its deadline.
LAST_RESORT_S = 1.0


class Engine:
    """Answers requests with the members it can reach. Make and use it on one event loop.

    Members are known by their applications' names, by their own where none are given.

    Attributes:
        spec: the ensemble as it was started; ``revision.spec`` is the live one.
        metrics: what happened so far.
        tracer: which requests are traced.
        on_logs: told how lines are to be written.
        revisions: those it answers by.
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
        self.tracer, self._told = Tracer(spec.name, node_id), b""
        self.on_logs: Callable[[LogSettings], None] = lambda settings: None
        limits = Limits(spec.serving.max_queued_rows, spec.serving.max_queued_bytes)

        own = secrets.token_hex(8)

        connections = Connections(node_id, tls, inside)

        def connect(name: str, address: Address, on_lost: Callable[[Peer], None]) -> Peer:
            peer = connections.connect(name, address, on_lost)
            if self._told:
                peer.tell(self._told)
            return peer

        def member(name: str) -> Member:
            return Member(name, partial(connect, name), limits, node_id, own)

        self.revisions = RevisionSet(spec, folder, member, apps)
        self._queue = RequestQueue(*limits)
        # When asked: nothing is done as the queue grows while all places for batches are taken.
        state = self.metrics.state
        state.queued_rows, state.queue_limit_rows = (lambda: self._queue.rows), limits.rows
        state.revision, state.ready = (lambda: self.revision.name), self.answerable
        state.processes = lambda: {name: m.process() for name, m in self.revisions.live.members.items() if m.ready()}
        self._slots = Slots(UNANSWERED_PER_REPLICA, self._schedule)
        self._flush_due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._open: dict[Request, Batch | SeveralBatches | None] = {}  # the batch of each, once it has one
        self._settled: list[Request] = []  # of these, those whose result is there
        self._deadlines: Deadlines[Batch] = Deadlines(Batch.settle)
        self._overdue: Deadlines[Request] = Deadlines(self._give_up)

    @property
    def revision(self) -> Revision:
        """The live one."""
        return self.revisions.live.revision

    async def use_telemetry(self, settings: Telemetry) -> None:
        """Trace and log so from now on, and have the members do so.

        Raises:
            MissingExtraError: traces are to be recorded, and what records them is not installed; nothing has changed.
        """
        await asyncio.to_thread(self.tracer.use, settings)
        self._spread(settings)

    async def adopt_telemetry(self, settings: Telemetry) -> None:
        """The same of settings that hold at other doors already: what can be done here is done."""
        await asyncio.to_thread(self.tracer.adopt, settings)
        self._spread(settings)

    def _spread(self, settings: Telemetry) -> None:
        self.on_logs(settings.logs)
        self._told = settings.to_json()
        for member in self.revisions.members():
            for peer in member.replicas.values():
                peer.tell(self._told)

    @property
    def queued_rows(self) -> int:
        return self._queue.rows

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

        Raises:
            RequestError: rows are not as wide as the revision reads them.
            OverloadedError: the queue is full.
            DeadlineError: the deadline passed before the quorum was in.
            QuorumError: too few members can answer.
            NonFiniteRowError: they can, but not with finite numbers.
        """
        served = served or self.revisions.choose(named=members is not None)
        submit = partial(self.submit, inputs, served, deadline_s, explain, members, priority, trace)
        answer: Answer = await self._answered(submit)
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
    ) -> Request:
        """Ask the ensemble; arguments and errors are those of ``infer``.

        Args:
            tell: called once, on a later turn of the event loop, unless the request is abandoned before.
        """
        now, longest_s = time.monotonic(), served.revision.deadline_s
        allowed_s = longest_s if deadline_s is None else min(deadline_s, longest_s)
        request = Request(inputs, served, now + allowed_s, explain, members, allowed_s, priority, (), trace, tell)
        self._enter(request, now, (served,))
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
        longest_s = max(view.revision.deadline_s for view in views.values())
        allowed_s = longest_s if deadline_s is None else min(deadline_s, longest_s)

        def submit(tell: Tell) -> Request:
            now = time.monotonic()
            request = Request(
                inputs, served, now + allowed_s, explain, members, allowed_s, priority, tuple(views), trace, tell
            )  # fmt: skip
            self._enter(request, now, views.values())
            return request

        answers: Answers = await self._answered(submit)
        return answers

    def abandon(self, request: Request) -> None:
        """The client is gone; nothing happens once it has been told."""
        if request in self._open:
            self._leave_batch(request)
            self._leave(request)
            request.promise.drop()
            self.metrics.answered("cancelled")

    async def _answered(self, submit: Callable[[Tell], Request]) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()
        request = submit(partial(_settle, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            self.abandon(request)
            raise
        finally:
            del answer, request  # an error keeps this frame: nothing of a ring would go before the next collection

    def _enter(self, request: Request, now: float, asked: Iterable[ServedRevision]) -> None:
        """A request is here, and ends by a call of its ``tell``, whatever becomes of it."""
        request.promise = Promise(partial(self._ended, request))
        self._open[request] = None
        self._overdue.set(request, request.deadline + LAST_RESORT_S)
        try:
            for one in asked:
                one.revision.graph.check(request.inputs)
            self._submit(request, now)
        except QuorateError as error:
            # Told, not raised: its frames hold the request, and that what is told, which would be a ring.
            _fail(request, error.with_traceback(None))
        except BaseException:
            request.promise.drop()
            self._leave(request)
            raise

    def _ended(self, request: Request) -> None:
        """There is a result or an error; who waits is told behind what goes on now, with all that end meanwhile."""
        if not self._settled:
            self._loop.call_soon(self._tell_settled)
        self._settled.append(request)

    def _tell_settled(self) -> None:
        settled, self._settled = self._settled, []
        for request in settled:
            if request in self._open:  # else it has been abandoned meanwhile
                self._leave(request)
                (result, error), tell, request.tell = request.promise.take(), request.tell, nobody
                try:  # whatever goes wrong with one, the others are told
                    try:
                        self._account(request, result, error)
                    finally:
                        tell(result, error)
                except Exception:
                    _log.exception("a request has ended, and something went wrong with that")

    def _account(self, request: Request, answer: Any, error: BaseException | None) -> None:
        """Count what became of a request."""
        seconds = time.monotonic() - (request.deadline - request.allowed_s)
        if error is not None:
            outcome = outcome_of(error) if isinstance(error, QuorateError) else "error"
            self._count(outcome, request, seconds)
            for output in request.outputs:
                self.metrics.output_answered(output, outcome)
            return
        self._count("degraded" if answer.degraded else "full", request, seconds, answer.members_missing.values())
        if request.outputs:
            self._count_outputs(answer)
        self.metrics.total(seconds, "" if request.trace is None else request.trace.kept_as)

    def _count(self, outcome: str, request: Request, seconds: float, missing: Collection[str] = ()) -> None:
        self.metrics.answered(outcome, missing)
        if request.members is None:  # others are not drawn for the canary, so they are not compared either
            self.revisions.count(request.served, outcome, seconds)

    def _count_outputs(self, found: Answers) -> None:
        for name, answer in found.answers.items():
            outcome = "degraded" if answer.degraded else "full"
            self.metrics.output_answered(name, outcome, answer.members_missing.values())
        for name, error in found.errors.items():
            self.metrics.output_answered(name, outcome_of(error) if isinstance(error, QuorateError) else "error")

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
        allowed_s = min(deadline_s or np.inf, self.revision.deadline_s)
        read = {source: inputs[source] for source in self.revision.spec.members[name].inputs}
        overloaded = OverloadedError(f"member '{name}'", self.spec.serving.max_queued_rows, 1.0)
        rows = len(next(iter(read.values())))
        call = None if trace is None else direct_call(trace, name, rows, self.revision.name)
        terms = Terms(time.monotonic() + allowed_s, FAIR_SHARE * self.revision.deadline_s, trace=call)
        reply = await infer_member(self.revisions.live.members[name], read, terms, overloaded)
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
        self._deadlines.close()
        self._overdue.close()
        self.tracer.close()

    def _submit(self, request: Request, now: float) -> None:
        for shed in self._queue.add(request, now):
            _fail(shed, self._queue.overloaded())
        self._set_alarm(request.deadline)
        self._schedule()

    def _schedule(self) -> None:
        if not self._flush_due and self._queue.waiting and self._slots.free():
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        while self._queue.waiting and self._slots.free():
            self._start_batch(self._next_requests())

    def _start_batch(self, requests: list[Request]) -> None:
        """Send requests on their way. What keeps them from it is their error, and leaves nothing behind."""
        served = requests[0].served
        try:
            with self._slots.take() as slot:
                batch = self._batch(requests, served, slot.release)
                for request in requests:
                    self._open[request] = batch
                batch.start()
        except FusionError as error:  # the rule cannot read these rows
            self._refuse(requests, RequestError(str(error)))
        except Exception:
            _log.exception("a batch could not be sent")
            self._refuse(requests, QuorateError("the rows could not be sent to the members; the server's log says why"))

    def _batch(
        self, requests: list[Request], served: ServedRevision, on_first: Callable[[], None]
    ) -> Batch | SeveralBatches:
        if requests[0].outputs:
            return SeveralBatches(requests, served, self.metrics, on_first, self._deadlines)
        return Batch(requests, served.revision, served.members, self.metrics, on_first, self._deadlines)

    def _refuse(self, requests: list[Request], error: QuorateError) -> None:
        """End requests whose batch could not start, and what of it has started."""
        for request in requests:
            _fail(request, error)
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

    def _give_up(self, request: Request) -> None:
        """The last resort: nothing has ended a request that is long overdue."""
        if not request.promise.done():
            _log.error("a request had neither an answer nor an error %g s after its deadline", LAST_RESORT_S)
            _fail(request, DeadlineError("an answer", "none in time"))
            self._leave_batch(request)

    def _leave(self, request: Request) -> None:
        """Nobody waits for it any more."""
        del self._open[request]
        self._overdue.drop(request)

    def _leave_batch(self, request: Request) -> None:
        """Nobody waits for it, in the queue or in its batch."""
        batch = self._open.get(request)
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
    if not request.promise.done():
        request.promise.set_exception(error)


def _settle(waiting: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Tell a coroutine, unless it has been cancelled a moment ago."""
    if waiting.done():
        return
    if error is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(result)
