"""The trace that a request belongs to, as ``traceparent`` and ``tracestate`` carry it.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/, sections 3.2 and 3.3.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
# What later sections add to the flags is kept, and what is unknown is not: section 3.2.2.5.
_KNOWN_FLAGS = 3
_MOST_STATE = 512


class TraceContext(NamedTuple):
    """A span as others refer to it.

    Attributes:
        trace_id: 128 bits, not 0; likewise ``span_id``, 64 bits.
        flags: 1 is set where the trace is recorded.
        state: what other systems keep in ``tracestate``, passed on as it came.
    """

    trace_id: int
    span_id: int
    flags: int = 0
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether the caller records it, and wants others to."""
        return bool(self.flags & _SAMPLED)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"

    def headers(self) -> dict[str, str]:
        """What tells a server of it, over HTTP as over gRPC."""
        state = {"tracestate": self.state} if self.state else {}
        return {"traceparent": self.traceparent, **state}


def new_context() -> TraceContext:
    """Of a trace that begins here and is not recorded: its ids stand in logs."""
    return TraceContext(random.getrandbits(128) or 1, random.getrandbits(64) or 1)


def read_context(parents: Sequence[str], states: Sequence[str] = ()) -> TraceContext | None:
    """The context that headers give; None where they give none, or one that is not to be used.

    Args:
        parents: every ``traceparent``; more than one is none.
        states: every ``tracestate``, in their order.
    """
    found = _TRACEPARENT.fullmatch(parents[0].strip()) if len(parents) == 1 else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    state = ",".join(state.strip() for state in states)
    usable = len(state) <= _MOST_STATE and state.isascii() and state.isprintable()
    return TraceContext(trace_id, span_id, int(found[4], 16) & _KNOWN_FLAGS, state if usable else "")
