"""One member asked by itself, without a fusion."""

# B rows

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.revision_set import ServedRevision
from quorate.deployments.engine.shortage import nonfinite_row
from quorate.deployments.errors import DeadlineError, OverloadedError, UnavailableError
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.terms import FAIR_SHARE, Terms
from quorate.deployments.telemetry.batch_trace import direct_call
from quorate.deployments.telemetry.tracer import RequestTrace
from quorate.deployments.time_limit import within
from quorate.deployments.transport.messages import Kind, Payload
from quorate.deployments.transport.row_state import RowState

Array = NDArray[Any]


async def infer_member(
    served: ServedRevision, name: str, inputs: Mapping[str, Array], deadline_s: float | None, trace: RequestTrace | None
) -> MemberReply:
    """Ask a member for what the spec calls its output; arguments are those of ``Engine.infer_member``.

    Args:
        served: the revision that it is of.

    Raises:
        OverloadedError: it has too much to do.
        UnavailableError: the member is not there.
        DeadlineError: it did not answer in time.
    """
    revision, member = served.revision, served.members[name]
    payload = Payload([inputs[source] for source in revision.spec.members[name].inputs])
    call = None if trace is None else direct_call(trace, name, payload.rows, revision.name)
    expires = time.monotonic() + min(deadline_s or math.inf, revision.deadline_s)
    terms = Terms(expires, FAIR_SHARE * revision.deadline_s, trace=call)
    done: asyncio.Future[MemberReply] = asyncio.get_running_loop().create_future()

    def on_reply(reply: MemberReply) -> None:
        if not done.done():
            done.set_result(reply)

    asked = member.ask(Kind.CALL, payload, terms, on_reply)
    if asked is None:
        if call is not None:
            call.failed(member.reason)
        if member.reason == RowState.SHED.reason:
            raise OverloadedError(f"member '{name}'", revision.spec.serving.max_queued_rows, 1.0)
        raise UnavailableError(f"no replica of member '{name}' takes calls ({member.reason}); retry later")
    try:
        return await within(max(expires - time.monotonic(), 0.0), done)
    except asyncio.TimeoutError:
        asked.give_up()
        raise DeadlineError("1 of 1 members", "0", f"{name}:deadline") from None
    except asyncio.CancelledError:
        asked.give_up("gone")
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
