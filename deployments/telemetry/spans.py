"""What is recorded of a trace, whoever records it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Protocol

from quorate.deployments.telemetry.trace_context import TraceContext

Value = str | bool | int | float
Attributes = Mapping[str, Value]


class SpanKind(Enum):
    """As OpenTelemetry names them."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"


class Span(Protocol):
    """Something that takes a while, as part of a trace."""

    @property
    def context(self) -> TraceContext:
        """By which others refer to it."""

    def set(self, attributes: Attributes) -> None:
        """Say more about it."""

    def event(self, name: str, attributes: Attributes) -> None:
        """Something has happened."""

    def link(self, context: TraceContext) -> None:
        """It has to do with a span of another trace."""

    def fail(self, sentence: str) -> None:
        """It has come to nothing."""

    def end(self, end_ns: int | None = None) -> None:
        """It is over, now or at a time since 1970."""


class Recorder(Protocol):
    """Keeps spans until they are sent."""

    def start(
        self,
        name: str,
        parent: TraceContext | None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        links: Sequence[TraceContext] = (),
        start_ns: int | None = None,
        within: Span | None = None,
    ) -> Span:
        """Begin a span, of a new trace where it has no parent.

        Args:
            within: one that ends later, and which it is sent with.
        """

    def defer(self, make: Callable[[], Span | None], end_ns: int) -> None:
        """Take a span that has ended then and is made only when it is sent; None where it turns out to be none."""

    def close(self) -> None:
        """Send what is there, and no more."""


def wall_ns(monotonic_s: float) -> int:
    """Nanoseconds since 1970 of a monotonic time."""
    return time.time_ns() - int((time.monotonic() - monotonic_s) * 1e9)
