"""For whom a process works at this moment: the lines that it writes say so, and servers that it asks are told."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token

from quorate.deployments.telemetry.call_context import CallContext

# Most work is for somebody whom nobody asks about: who it is is found out when it is asked.
Whom = Callable[[], "CallContext | None"]
_WORKS_FOR: ContextVar[Whom | None] = ContextVar("works_for", default=None)


def works_for() -> CallContext | None:
    """None where it is for nobody who is known."""
    whom = _WORKS_FOR.get()
    return None if whom is None else whom()


def work_for(whom: Whom) -> Token[Whom | None]:
    """From here on."""
    return _WORKS_FOR.set(whom)


def stop_working(token: Token[Whom | None]) -> None:
    """No more."""
    _WORKS_FOR.reset(token)


def trace_headers() -> dict[str, str]:
    """What another server that is asked now should be sent."""
    whom = works_for()
    return {} if whom is None else whom.span.headers()
