"""Several outputs in one answer: each is fused by itself, by its own rule, members and deadline.

A batch of such requests is one batch for each output. Members that several of them ask for the same rows are asked
once: the call goes on until the last of them has its reply or waits no longer.
"""

# B rows

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.engine.batch import Batch, join_columns
from quorate.deployments.engine.fan_out import Waiting
from quorate.deployments.engine.requests.deadlines import Deadlines
from quorate.deployments.engine.requests.request import Answer, Promise, Request
from quorate.deployments.engine.revision_set import ServedRevision
from quorate.deployments.errors import DeadlineError, NonFiniteRowError
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.call import Call, OnReply
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.terms import Terms
from quorate.deployments.transport.messages import Kind, Payload
from quorate.deployments.wire.answer_id import ANSWER_ID
from quorate.fusion.errors import QuorumError

Array = NDArray[Any]


@dataclass(frozen=True)
class Answers:
    """What came of each output.

    Attributes:
        answers: by output, in the order that they were asked for; at least one.
        errors: of the others.
    """

    answers: Mapping[str, Answer]
    errors: Mapping[str, BaseException]

    @property
    def members_missing(self) -> Mapping[str, str]:
        """Reason by member, for members that are missing from any output; and by output that has no answer."""
        missing = {name: why for answer in self.answers.values() for name, why in answer.members_missing.items()}
        for name, error in self.errors.items():
            missing |= _reasons(name, error)
        return missing

    @property
    def degraded(self) -> bool:
        return bool(self.errors) or any(answer.degraded for answer in self.answers.values())

    @property
    def queued_s(self) -> float:
        return max(answer.queued_s for answer in self.answers.values())

    def parameters(self) -> dict[str, str | float | bool]:
        """What holds of all of them: who is fused into any, who is missing from any, the least coverage."""
        answers = self.answers.values()
        missing = {f"{name}:{why}" for answer in answers for name, why in answer.members_missing.items()}
        found: dict[str, str | float | bool] = {
            "revision": next(iter(answers)).revision,
            "members_used": ",".join(sorted({name for answer in answers for name in answer.members_used})),
            "members_missing": ",".join(sorted(missing)),
            "coverage": min(float(answer.coverage.min()) for answer in answers),
            "degraded": self.degraded,
            ANSWER_ID: next(iter(answers)).id,
        }
        if self.errors:
            why = {name: next(iter(_reasons(name, error).values())) for name, error in self.errors.items()}
            found["outputs_missing"] = ",".join(f"{name}:{reason}" for name, reason in why.items())
        return found


class SeveralBatches:
    """A ``Batch`` for each output of the same requests."""

    def __init__(
        self,
        requests: Sequence[Request],
        served: ServedRevision,
        metrics: Metrics,
        on_first: Callable[[], None],
        deadlines: Deadlines[Batch],
    ):
        columns = join_columns(requests)
        members = {name: _SharedMember(member, requests) for name, member in served.members.items()}
        self._parts = {
            request: {name: _part(request, served.views[name]) for name in request.outputs} for request in requests
        }
        self._batches: dict[str, Batch] = {}
        for name in requests[0].outputs:
            parts = [self._parts[request][name] for request in requests]
            self._batches[name] = Batch(
                parts, served.views[name].revision, members, metrics, on_first, deadlines, columns
            )
        for request, parts_of in self._parts.items():
            for part in parts_of.values():
                part.promise = Promise(partial(self._done, request))

    def start(self) -> None:
        """Send the rows to every member of every output."""
        for batch in self._batches.values():
            batch.start()

    def abandon(self, request: Request) -> None:
        """The client is gone."""
        for name, part in self._parts[request].items():
            self._batches[name].abandon(part)

    def _done(self, request: Request) -> None:
        """One of a request's outputs has ended: with the last of them the request does."""
        parts = {name: part.promise for name, part in self._parts[request].items()}
        if request.promise.done() or not all(part.done() for part in parts.values()):
            return
        errors = {name: part.error for name, part in parts.items() if part.error is not None}
        answers = {name: part.result for name, part in parts.items() if name not in errors}
        if answers:
            request.promise.set_result(Answers(answers, errors))
        else:
            request.promise.set_exception(next(iter(errors.values())))


def _reasons(output: str, error: BaseException) -> dict[str, str]:
    """Why an output has no answer: reasons by member where it says so, else its own."""
    if isinstance(error, QuorumError) and error.missing:
        return dict(one.split(":") for one in error.missing.split(", "))
    if isinstance(error, DeadlineError):
        return {output: "deadline"}
    return {output: "nonfinite" if isinstance(error, NonFiniteRowError) else "error"}


def _part(request: Request, view: ServedRevision) -> Request:
    """What a request asks of one output."""
    allowed_s = min(request.allowed_s, view.revision.deadline_s)
    asked = view.revision.asked
    members = None if request.members is None else tuple(name for name in request.members if name in asked)
    arrived = request.deadline - request.allowed_s
    return Request(
        request.inputs, view, arrived + allowed_s, request.explain, members, allowed_s, request.priority,
        trace=request.trace, answer_id=request.answer_id, watchers=request.watchers,
    )  # fmt: skip


class _SharedMember:
    """A member for the batches of several outputs: asked the same rows again, it gives the call that is under way."""

    def __init__(self, member: Member, requests: Sequence[Request]):
        self._member = member
        self._expires = max(request.deadline for request in requests)
        self._calls: dict[tuple[Kind, tuple[int, ...]], _SharedCall] = {}

    @property
    def reason(self) -> str:
        return self._member.reason

    def back_s(self) -> float:
        return self._member.back_s()

    def ask(self, kind: Kind, payload: Payload, terms: Terms, done: OnReply) -> Waiting | None:
        """As ``Member.ask``; the call lasts as long as the longest of the outputs may."""
        # The batches have the same columns, and the same replies to read: other rows are other arrays.
        key = kind, tuple(map(id, payload.tensors))
        shared = self._calls.get(key)
        if shared is None or shared.given_up:
            shared = _SharedCall(payload)
            shared.call = self._member.ask(kind, payload, terms._replace(expires=self._expires), shared.take)
            if shared.call is None:
                return None
            self._calls[key] = shared
        return shared.join(terms, done)


class _SharedCall:
    """One call and those who wait for it."""

    call: Call | None = None
    given_up = False

    def __init__(self, payload: Payload):
        self._payload = payload  # its arrays are what the call is known by
        self._reply: MemberReply | None = None
        self._waiting: list[_Waiter] = []

    def join(self, terms: Terms, done: OnReply) -> _Waiter:
        waiter = _Waiter(self, terms, done)
        if self._reply is None:
            self._waiting.append(waiter)
        else:
            waiter.take(self._reply)
        return waiter

    def take(self, reply: MemberReply) -> None:
        self._reply = reply
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.take(reply)

    def leave(self, waiter: _Waiter, reason: str) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            if not self._waiting and self.call is not None:
                self.given_up = True
                self.call.give_up(reason)


class _Waiter:
    """One batch's part in a call; to the batch, the call."""

    def __init__(self, shared: _SharedCall, terms: Terms, done: OnReply):
        self.terms, self.finished = terms, False
        self._shared, self._done = shared, done

    def take(self, reply: MemberReply) -> None:
        self.finished = True
        self._done(reply)

    def give_up(self, reason: str = "deadline") -> None:
        if not self.finished:
            self.finished = True
            self._shared.leave(self, reason)
