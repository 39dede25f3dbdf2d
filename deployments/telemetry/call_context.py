"""What travels with a call to a member, beside its rows: the span that it is part of, and who asked."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from quorate.deployments.telemetry.trace_context import TraceContext, read_context


@dataclass(frozen=True, slots=True)
class CallContext:
    """Of one call.

    Attributes:
        span: of the call.
        revision: by which the requests are answered.
        requests: name and trace (32 hexadecimal digits) of those that travel together and are traced; a client may
            give no name.
    """

    span: TraceContext
    revision: str
    requests: tuple[tuple[str, str], ...]

    def to_json(self) -> bytes:
        return orjson.dumps((self.span.traceparent, self.span.state, self.revision, self.requests))


def read_call_context(text: str) -> CallContext | None:
    """What ``to_json`` gave; None for anything else."""
    try:
        parent, state, revision, requests = orjson.loads(text)
        span = read_context([parent], [state])
        asked = tuple((str(name), str(trace)) for name, trace in requests)
    except (ValueError, TypeError, AttributeError):
        return None
    return None if span is None else CallContext(span, str(revision), asked)
