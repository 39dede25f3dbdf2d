"""Whether a replica works: it is asked a row that the member has answered before.

Without this a client that sends only rows that no model can take would have the member left out for all clients.
Until a member has answered any row at all this cannot be decided, and failures do not count against a replica.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from quorate.deployments.routing.replica import Peer
from quorate.deployments.transport.messages import Kind, Message, Payload
from quorate.deployments.transport.row_state import RowState

# A check that has no answer by then says nothing: calls that are late are counted by themselves.
CHECK_S = 5.0

# Called with a replica and, when it failed on the good row too, the reason of the failure that led to the check.
OnVerdict = Callable[[Peer, "str | None"], None]
# Called with a replica that was tried again, its answer, the question and how long it took.
OnAnswer = Callable[[Peer, Message, Kind, Payload, float], object]


class HealthProbe:
    """One row that a member answered well, and the calls with it that are under way.

    Attributes:
        question: the row; None while none is known.
        checks: of replicas that failed a moment ago.
        trials: of replicas that have been left out long enough.
    """

    def __init__(self, on_verdict: OnVerdict, on_answer: OnAnswer):
        self._on_verdict, self._on_answer = on_verdict, on_answer
        self.question: tuple[Kind, Payload] | None = None
        self.checks: dict[Peer, tuple[int, asyncio.TimerHandle]] = {}
        self.trials: dict[Peer, int] = {}

    def remember(self, kind: Kind, payload: Payload) -> None:
        """Keep a row of a call that was answered well; the first will do."""
        if self.question is None:
            self.question = kind, Payload([tensor[:1].copy() for tensor in payload.tensors])

    def check(self, peer: Peer, reason: str) -> None:
        """Ask a replica that failed, unless that is being done; bad rows sent on purpose cost one row at a time."""
        if self.question is None or peer in self.checks or peer.closed or peer.leaving:
            return
        kind, payload = self.question
        timer = asyncio.get_running_loop().call_later(CHECK_S, self._end_check, peer)
        call_id = peer.call(kind, payload, time.monotonic() + CHECK_S, partial(self._judge, peer, reason))
        self.checks[peer] = call_id, timer

    def try_again(self, peer: Peer, kind: Kind, payload: Payload, expires: float) -> None:
        """Ask a replica that was left out, without anyone waiting for its answer.

        Args:
            kind, payload: asked where no good row is known yet.
        """
        if self.question is not None:  # what is at hand may be somebody's bad rows
            kind, payload = self.question
        if peer in self.trials:
            peer.drop(self.trials[peer])
        started = time.monotonic()

        def on_reply(message: Message | None) -> None:
            now = time.monotonic()
            if message is not None and message.kind == Kind.ANSWER and now <= expires:
                self._on_answer(peer, message, kind, payload, now - started)

        self.trials[peer] = peer.call(kind, payload, expires, on_reply)

    def forget(self, peer: Peer) -> None:
        """A replica is gone, or known to work: it need not be asked."""
        self.trials.pop(peer, None)
        self._end_check(peer)

    def _end_check(self, peer: Peer) -> None:
        if peer in self.checks:
            call_id, timer = self.checks.pop(peer)
            timer.cancel()
            peer.drop(call_id)

    def _judge(self, peer: Peer, reason: str, message: Message | None) -> None:
        self._end_check(peer)
        if message is not None:
            self._on_verdict(peer, None if _is_good(message) else reason)


def _is_good(message: Message) -> bool:
    return len(message.tensors) == 2 and message.tensors[1].tolist() == [RowState.OK]
