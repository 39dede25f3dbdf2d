"""A call to one of several members that share a process, and what comes of it."""

# B rows

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.transport.messages import Kind, Message, Payload

Array = NDArray[Any]


class MemberCall(NamedTuple):
    """Rows for one member.

    Attributes:
        call_id: by which its answer is known.
        member: the member's place in the process.
        kind: CALL or CALL_PROBABILITIES.
        expires: until when somebody waits (monotonic time).
        context: whose rows they are, see ``telemetry.call_context``; empty where they are not traced.
    """

    call_id: int
    member: int
    kind: Kind
    payload: Payload
    expires: float
    context: bytes = b""


class Outcome(NamedTuple):
    """What a member gave.

    Attributes:
        question: the place of the question among those that were asked.
        values: (B, ...), unusable rows zeroed; None where it is too large to be handed on, and ``refusal`` says so.
        status: (B,) RowState.
        seconds: that it computed.
        good: every row is there, in values that nobody else has: a model may give the same array again, with other
            numbers.
    """

    question: int
    values: Array | None
    status: NDArray[np.uint8]
    seconds: float
    refusal: str = ""
    good: bool = False

    def message(self, call_id: int) -> Message:
        """The answer to the call of this number."""
        if self.values is None:
            return Message(Kind.FAILURE, call_id, self.seconds, (), self.refusal)
        values = self.values if self.good else self.values.copy()
        return Message(Kind.ANSWER, call_id, self.seconds, (values, self.status))


def asked_together(calls: list[MemberCall]) -> list[list[MemberCall]]:
    """The calls that are about the same rows, no member twice in one list."""
    found: dict[tuple[int, ...], list[list[MemberCall]]] = {}
    for call in calls:
        lists = found.setdefault(tuple(map(id, call.payload.tensors)), [])
        free = (one for one in lists if all(other.member != call.member for other in one))
        one = next(free, None)
        if one is None:
            lists.append(one := [])
        one.append(call)
    return [one for lists in found.values() for one in lists]
