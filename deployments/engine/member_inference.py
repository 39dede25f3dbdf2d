"""One member asked by itself, without a fusion."""

# B rows

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.shortage import nonfinite_row
from quorate.deployments.errors import DeadlineError, UnavailableError
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.terms import Terms
from quorate.deployments.time_limit import within
from quorate.deployments.transport.messages import Kind, Payload
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.errors import QuorateError

Array = NDArray[Any]


async def infer_member(
    member: Member, inputs: Mapping[str, Array], terms: Terms, overloaded: QuorateError
) -> MemberReply:
    """Ask a member for what the spec calls its output.

    Args:
        inputs: what it reads, (B, *shape) each, in its order.
        overloaded: what to raise when it has too much to do.

    Raises:
        UnavailableError: the member is not there.
        DeadlineError: it did not answer in time.
    """
    done: asyncio.Future[MemberReply] = asyncio.get_running_loop().create_future()

    def on_reply(reply: MemberReply) -> None:
        if not done.done():
            done.set_result(reply)

    payload = Payload(list(inputs.values()))
    call = member.ask(Kind.CALL, payload, terms, on_reply)
    if call is None:
        if terms.trace is not None:
            terms.trace.failed(member.reason)
        if member.reason == "shed":
            raise overloaded
        raise UnavailableError(f"no replica of member '{member.name}' takes calls ({member.reason}); retry later")
    try:
        return await within(max(terms.expires - time.monotonic(), 0.0), done)
    except asyncio.TimeoutError:
        call.give_up()
        raise DeadlineError("1 of 1 members", "0", f"{member.name}:deadline") from None
    except asyncio.CancelledError:
        call.give_up("gone")
        raise


def check_reply(name: str, reply: MemberReply, inputs: Mapping[str, Array]) -> None:
    """Raise unless every row of a member's reply is good.

    Raises:
        UnavailableError: the member could not answer.
        NonFiniteRowError: its answer to a row is not finite.
    """
    if reply.values is None or reply.status is None:
        raise UnavailableError(f"member '{name}' could not answer ({reply.reason}); retry later")
    bad = np.flatnonzero(reply.status)
    if not len(bad):
        return
    if (reply.status[bad] == RowState.NONFINITE).all():
        raise nonfinite_row(int(bad[0]), [name], inputs)
    reason = RowState(int(reply.status[bad[0]])).reason
    raise UnavailableError(f"member '{name}' failed on row {bad[0]} ({reason}); check the input")
