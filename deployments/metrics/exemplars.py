"""Which trace a request belongs to, so that a histogram can show one request of each of its buckets."""

from __future__ import annotations

import re
from contextvars import ContextVar

# Of the request that the task under way answers; empty where its trace is not kept anywhere.
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
# Source: W3C Trace Context, 3.2.2: version, trace, parent, flags; later versions may add more behind a dash.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1


def sampled_trace_id(traceparent: bytes) -> str:
    """The trace of a ``traceparent`` header whose sender keeps it; empty for any other, and for what is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or not int(found[2], 16) & _SAMPLED:
        return ""
    return found[1].decode()
