"""How a batch reaches its members: all at once here, along the graph in ``graph_run``."""

# M members, B batch

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from numpy.typing import NDArray

from quorate.deployments.engine.graph import Graph
from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.at_once import ask_at_once
from quorate.deployments.routing.call import OnReply
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.terms import Terms
from quorate.deployments.telemetry.batch_trace import BatchTrace
from quorate.deployments.transport.messages import Kind, Payload

Array = NDArray[Any]

# A timer may fire this much early; what is due within it is due now.
SLACK_S = 0.0005
_QUESTION = Kind.CALL_PROBABILITIES


class Waiting(Protocol):
    """A call of a batch to a member.

    Attributes:
        terms: on which it was made.
        finished: it has its reply, or was given up.
    """

    terms: Terms
    finished: bool

    def give_up(self, reason: str = "deadline") -> None:
        """The batch no longer waits."""


class Asked(Protocol):
    """A member as a batch asks it."""

    @property
    def reason(self) -> str:
        """Why it cannot be asked."""

    def ask(self, kind: Kind, payload: Payload, terms: Terms, done: OnReply) -> Waiting | None:
        """Send rows; None where it cannot be asked."""

    def back_s(self) -> float:
        """In how many seconds it may take calls again."""


class FanOut(Protocol):
    """One batch's questions to its members."""

    def start(self) -> None:
        """Ask; ``on_reply`` is called whenever a member has replied."""

    @property
    def complete(self) -> bool:
        """Whether nothing more will come."""

    def so_far(self) -> Mapping[str, MemberReply]:
        """Each member's reply as it stands, also of those that only other members read."""

    def input_coverage(self) -> Mapping[str, Array]:
        """(B,) the coverage of what each fused member read, where that was not all."""

    def stop(self) -> None:
        """Nobody waits any more."""


class Parallel:
    """Every member reads the request, and all are asked at once."""

    def __init__(
        self,
        graph: Graph,
        asked: Sequence[str],
        members: Mapping[str, Asked],
        metrics: Metrics,
        columns: Mapping[str, Array],
        expires: float,
        on_reply: Callable[[], None],
        trace: BatchTrace | None = None,
    ):
        self._replies: dict[str, MemberReply] = {}
        self._graph, self._asked, self._members, self._metrics = graph, asked, members, metrics
        self._columns, self._expires, self._on_reply, self._trace = columns, expires, on_reply, trace
        self._calls: dict[str, Waiting] = {}

    def start(self) -> None:
        members, payloads = [self._members[name] for name in self._asked], self._payloads()
        replies = ask_at_once(members, _QUESTION, payloads, self._expires) if self._trace is None else None
        if replies is not None:
            self._replies = dict(zip(self._asked, replies, strict=True))
            self._metrics.members_replied(self._replies)
            return
        for name, member, payload in zip(self._asked, members, payloads, strict=True):
            terms = traced(self._trace, self._graph.terms(name, self._expires), name, payload)
            call = member.ask(_QUESTION, payload, terms, partial(self._take, name))
            if call is None:
                not_asked(terms, member.reason)
                self._replies[name] = MemberReply(None, None, member.reason)
                self._metrics.member_replied(name, self._replies[name])
            else:
                self._calls[name] = call

    def _payloads(self) -> list[Payload]:
        """Of each member; who reads the same is sent the same."""
        made: dict[tuple[str, ...], Payload] = {}
        found, members = [], self._graph.spec.members
        for name in self._asked:
            sources = members[name].inputs
            if sources not in made:
                made[sources] = Payload([self._columns[source] for source in sources])
            found.append(made[sources])
        return found

    @property
    def complete(self) -> bool:
        return len(self._replies) == len(self._asked)

    def so_far(self) -> Mapping[str, MemberReply]:
        return self._replies

    def input_coverage(self) -> Mapping[str, Array]:
        return {}

    def stop(self) -> None:
        if self._calls:
            give_up({name: call for name, call in self._calls.items() if name not in self._replies}, self._metrics)
            self._calls.clear()
        self._on_reply = ignore

    def _take(self, name: str, reply: MemberReply) -> None:
        self._replies[name] = reply
        self._metrics.member_replied(name, reply)
        self._on_reply()


def traced(trace: BatchTrace | None, terms: Terms, name: str, payload: Payload) -> Terms:
    """The terms of a call, which tell of it where its batch is traced."""
    if trace is None:
        return terms
    expires, patience_s, percentile, _ = terms
    return Terms(expires, patience_s, percentile, trace.call(name, payload.rows))


def not_asked(terms: Terms, reason: str) -> None:
    """The member takes no call."""
    if terms.trace is not None:
        terms.trace.failed(reason)


def ignore() -> None:
    """Stands in for a batch that has ended: batch and fan-out hold each other, and must not wait for the collector."""


def give_up(late: Mapping[str, Waiting], metrics: Metrics) -> None:
    """Tell the members that nobody waits; those that let the deadline pass are counted."""
    for name, call in late.items():
        reason = "deadline" if call.terms.expires <= time.monotonic() + SLACK_S else "gone"
        call.give_up(reason)
        if reason == "deadline":
            metrics.member_replied(name, MemberReply(None, None, "deadline"))
