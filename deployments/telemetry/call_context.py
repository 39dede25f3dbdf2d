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


class AskedBy:
    """What the contexts of all calls of a batch have in common, written once; see ``CallContext``."""

    __slots__ = ("_written",)

    def __init__(self, revision: str, requests: tuple[tuple[str, str], ...]):
        self._written = orjson.dumps((revision, requests))

    def of(self, span: TraceContext) -> bytes:
        """The context of one call, as it travels."""
        return b"%b,%b" % (orjson.dumps((span.traceparent, span.state))[:-1], self._written[1:])


def read_call_context(text: str) -> CallContext | None:
    """What ``AskedBy.of`` gave; None for anything else."""
    try:
        parent, state, revision, requests = orjson.loads(text)
        span = read_context([parent], [state])
        asked = tuple((str(name), str(trace)) for name, trace in requests)
    except (ValueError, TypeError, AttributeError):
        return None
    return None if span is None else CallContext(span, str(revision), asked)
