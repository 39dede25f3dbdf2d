"""A call to one of several members that share a process."""

# B rows

from __future__ import annotations

from typing import NamedTuple

from quorate.deployments.transport.messages import Kind, Payload


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
