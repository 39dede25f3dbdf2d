"""On what terms a member is called: they travel with each call, since revisions share the members that they ask."""

from __future__ import annotations

from typing import NamedTuple

from quorate.deployments.telemetry.batch_trace import CallTrace

# A call given up after less than this share of the ensemble's deadline says nothing about the member.
FAIR_SHARE = 0.5


class Terms(NamedTuple):
    """Of one call.

    Attributes:
        expires: when nobody waits for it any more (monotonic time).
        patience_s: a replica that had less than this when the call was given up is not judged by it.
        hedge_percentile: a second replica is asked when the call is later than this percentile of recent ones; None
            for never.
        trace: what becomes of it is told; None for nearly all.
    """

    expires: float
    patience_s: float = 0.0
    hedge_percentile: int | None = None
    trace: CallTrace | None = None
