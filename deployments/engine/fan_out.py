"""How a batch reaches its members: all at once here, along the graph in ``flow``."""

# M members, B batch

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from numpy.typing import NDArray

from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.member import Ask, Member, MemberReply
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.transport.messages import Kind, Payload

Array = NDArray[Any]

# A timer may fire this much early; what is due within it is due now.
SLACK_S = 0.0005
_QUESTION = Kind.CALL_PROBABILITIES


class Fanout(Protocol):
    """One batch's questions to its members."""

    def start(self) -> None:
        """Ask; ``on_reply`` is called whenever a member has replied."""

    @property
    def complete(self) -> bool:
        """Whether nothing more will come."""

    def so_far(self) -> Mapping[str, MemberReply]:
        """Each member's reply as it stands, also of those that are asked for other members' sake."""

    def input_coverage(self) -> Mapping[str, Array]:
        """(B,) the coverage of what each fused member read, where that was not all."""

    def stop(self) -> None:
        """Nobody waits any more."""


class Parallel:
    """Every member reads the request, and all are asked at once."""

    def __init__(
        self,
        spec: EnsembleSpec,
        asked: Sequence[str],
        members: Mapping[str, Member],
        metrics: Metrics,
        columns: Mapping[str, Array],
        expires: float,
        on_reply: Callable[[], None],
    ):
        self._replies: dict[str, MemberReply] = {}
        self._spec, self._asked, self._members, self._metrics = spec, asked, members, metrics
        self._columns, self._expires, self._on_reply = columns, expires, on_reply
        self._asks: dict[str, Ask] = {}

    def start(self) -> None:
        payloads: dict[tuple[str, ...], Payload] = {}
        for name in self._asked:
            sources, member = self._spec.members[name].inputs, self._members[name]
            if sources not in payloads:
                payloads[sources] = Payload.of([self._columns[source] for source in sources])
            ask = member.ask(_QUESTION, payloads[sources], self._expires, partial(self._take, name))
            if ask is None:
                self._replies[name] = MemberReply(None, None, member.reason)
                self._metrics.member_replied(name, self._replies[name])
            else:
                self._asks[name] = ask

    @property
    def complete(self) -> bool:
        return len(self._replies) == len(self._asked)

    def so_far(self) -> Mapping[str, MemberReply]:
        return self._replies

    def input_coverage(self) -> Mapping[str, Array]:
        return {}

    def stop(self) -> None:
        give_up({name: ask for name, ask in self._asks.items() if name not in self._replies}, self._metrics)
        self._asks.clear()
        self._on_reply = deaf

    def _take(self, name: str, reply: MemberReply) -> None:
        self._replies[name] = reply
        self._metrics.member_replied(name, reply)
        self._on_reply()


def deaf() -> None:
    """Stands in for a batch that has ended: batch and fan-out hold each other, and must not wait for the collector."""


def give_up(late: Mapping[str, Ask], metrics: Metrics) -> None:
    """Tell the members that nobody waits; those that let the deadline pass are counted."""
    for name, ask in late.items():
        reason = "deadline" if ask.expires <= time.monotonic() + SLACK_S else "gone"
        ask.give_up(reason)
        if reason == "deadline":
            metrics.member_replied(name, MemberReply(None, None, "deadline"))
