"""The short way to members inside of this process: one question where all of a batch can say at once what they give.

Without a call, a timer and a turn of the event loop for each of them. Whatever is the matter with one, or may take
longer, is for a call of each (``call``), and an answer that is not good is judged as any other.
"""

# M members

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from quorate.deployments.routing.member import Member
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.shared_replica import MemberPeer
from quorate.deployments.transport.member_call import MemberCall
from quorate.deployments.transport.messages import Kind, Payload


def ask_at_once(
    members: Sequence[object], kind: Kind, payloads: Sequence[Payload], expires: float
) -> list[MemberReply] | None:
    """What each of M members says; None where they have to be called.

    Args:
        payloads: rows for each.
        expires: until when somebody waits (monotonic time).
    """
    started, replica = time.monotonic(), None
    asked: list[tuple[Member, MemberPeer, Payload]] = []
    calls: list[MemberCall] = []
    for place, member in enumerate(members):
        if not isinstance(member, Member):
            return None
        peer = member.untroubled()
        if peer is None or (replica is not None and peer.shared is not replica):
            return None
        replica, payload = peer.shared, payloads[place]
        asked.append((member, peer, payload))
        # All are run whatever the time, so that none is without an answer: that is soon.
        calls.append(MemberCall(place, peer.place, kind, payload, math.inf))
    outcomes = None if replica is None or started >= expires else replica.answer(calls)
    if outcomes is None:
        return None
    latency_s = time.monotonic() - started
    replies: dict[int, MemberReply] = {}
    for outcome in outcomes:
        place = outcome.question
        if outcome.good:
            replies[place] = MemberReply(outcome.values, outcome.status, "", outcome.seconds, 0, latency_s)
        else:
            member, peer, payload = asked[place]
            replies[place] = member.read(peer, outcome.message(place), kind, payload, latency_s)
    return [replies[place] for place in range(len(asked))]
