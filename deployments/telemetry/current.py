"""For whom a process works at this moment: the lines that it writes say so, and servers that it asks are told."""

from __future__ import annotations

from contextvars import ContextVar, Token

from quorate.deployments.telemetry.call_context import CallContext

_WORKS_FOR: ContextVar[CallContext | None] = ContextVar("works_for", default=None)


def works_for() -> CallContext | None:
    """None where it is for nobody who is known."""
    return _WORKS_FOR.get()


def work_for(whom: CallContext) -> Token[CallContext | None]:
    """From here on."""
    return _WORKS_FOR.set(whom)


def stop_working(token: Token[CallContext | None]) -> None:
    """No more."""
    _WORKS_FOR.reset(token)


def trace_headers() -> dict[str, str]:
    """What another server that is asked now should be sent."""
    whom = _WORKS_FOR.get()
    return {} if whom is None else whom.span.headers()
