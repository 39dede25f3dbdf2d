"""Whose fault is it that rows fail: theirs, or the replica's? A row that the member has answered before tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from quorate.deployments.routing.replica import Peer
from quorate.deployments.transport.messages import Kind, Message, Payload
from quorate.deployments.transport.row_state import RowState

# A check that has no answer by then says nothing: calls that are late are counted by themselves.
CHECK_S = 5.0

# Called with a replica and, when it failed on the good row too, the reason of the failure that led to the check.
OnVerdict = Callable[[Peer, "str | None"], None]


class KnownGood:
    """One row that a member answered well, and the checks of replicas with it that are under way.

    Without this a client that sends only rows that no model can take would have the member left out for everybody.
    Until a member has answered any row at all nothing can be told, and no replica is blamed: nobody would gain by that.

    Attributes:
        checks: the calls under way, by replica.
    """

    def __init__(self, on_verdict: OnVerdict):
        self._on_verdict = on_verdict
        self._question: tuple[Kind, Payload] | None = None
        self.checks: dict[Peer, tuple[int, asyncio.TimerHandle]] = {}

    @property
    def question(self) -> tuple[Kind, Payload] | None:
        """A call of one row; None until there was a good answer."""
        return self._question

    def remember(self, kind: Kind, payload: Payload) -> None:
        """Keep a row of a call that was answered well; the first will do."""
        if self._question is None:
            self._question = kind, Payload.of([tensor[:1].copy() for tensor in payload.tensors])

    def check(self, peer: Peer, reason: str) -> None:
        """Ask a replica again that failed, unless that is being done; whoever sends poison costs one row at a time."""
        if self._question is None or peer in self.checks or peer.closed or peer.leaving:
            return
        kind, payload = self._question
        timer = asyncio.get_running_loop().call_later(CHECK_S, self.forget, peer)
        call_id = peer.call(kind, payload, time.monotonic() + CHECK_S, lambda m: self._judge(peer, reason, m))
        self.checks[peer] = call_id, timer

    def forget(self, peer: Peer) -> None:
        """Wait for a check no longer."""
        if peer in self.checks:
            call_id, timer = self.checks.pop(peer)
            timer.cancel()
            peer.drop(call_id)

    def _judge(self, peer: Peer, reason: str, message: Message | None) -> None:
        self.forget(peer)
        if message is not None:
            self._on_verdict(peer, None if _is_good(message) else reason)


def _is_good(message: Message) -> bool:
    return len(message.tensors) == 2 and message.tensors[1].tolist() == [RowState.OK]
