"""What a member's process records of forward passes, and for whom its lines are; fusion replicas say how."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from quorate.deployments.telemetry.batch_trace import linked
from quorate.deployments.telemetry.call_context import CallContext, read_call_context
from quorate.deployments.telemetry.current import stop_working, work_for
from quorate.deployments.telemetry.settings import LogSettings, Telemetry
from quorate.deployments.telemetry.spans import Attributes, Recorder, Span, SpanKind
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.telemetry.tracer import Tracer


class MemberTelemetry:
    """Of one replica of a member."""

    def __init__(
        self,
        service: str,
        replica: str = "",
        on_logs: Callable[[LogSettings], None] = lambda settings: None,
        log: Callable[[str], None] = lambda line: None,
    ):
        """
        Args:
            service: what its spans are said to be of.
            on_logs: told how lines are to be written.
            log: writes one.
        """
        self._tracer, self._member = Tracer(service, replica), service.rpartition("/")[2]
        self._on_logs, self._log = on_logs, log

    def use(self, stored: str) -> None:
        """Go by these settings from now on, a moment later what needs to be loaded for them."""
        settings = Telemetry.from_json(stored)
        if settings != self._tracer.settings:
            self._on_logs(settings.logs)
            # What is to be loaded for it takes a while, and rows wait for nothing.
            threading.Thread(target=self._tracer.adopt, args=(settings,), name="telemetry", daemon=True).start()

    def close(self) -> None:
        """Send what is there."""
        self._tracer.close()

    def forward(self, contexts: Sequence[str], rows: int, waited_s: float, device: str) -> Forward:
        """One forward pass, as a context.

        Args:
            contexts: of the calls that it answers, as they came.
            waited_s: how long the first of them has waited.
        """
        log = self._log if self._tracer.settings.logs.verbose > 1 else None
        return Forward(self._tracer.recorder, self._member, contexts, rows, waited_s, device, log)


class Forward:
    """A forward pass that is known for whom; what it takes to say so is done when somebody asks, or when it is sent."""

    __slots__ = ("_began_ns", "_contexts", "_device", "_ended_ns", "_log", "_member", "_recorder", "_rows", "_said",
                 "_token", "_waited_s")  # fmt: skip

    def __init__(
        self,
        recorder: Recorder | None,
        member: str,
        contexts: Sequence[str],
        rows: int,
        waited_s: float,
        device: str,
        log: Callable[[str], None] | None,
    ):
        self._recorder, self._member, self._contexts = recorder, member, contexts
        self._rows, self._waited_s, self._device, self._log = rows, waited_s, device, log
        self._said: tuple[CallContext, Span | None] | None = None

    def __enter__(self) -> None:
        self._began_ns = time.time_ns()
        self._token = work_for(self._whom)

    def __exit__(self, *_: object) -> None:
        self._ended_ns = time.time_ns()
        if self._log is not None:
            took_ms = (self._ended_ns - self._began_ns) / 1e6
            self._log(f"ran {self._rows} rows of {len(self._contexts)} calls in {took_ms:.2f} ms")
        stop_working(self._token)
        if self._recorder is not None:
            self._recorder.defer(self._span, self._ended_ns)

    def _whom(self) -> CallContext | None:
        if self._said is None:
            known = [found for text in self._contexts if (found := read_call_context(text)) is not None]
            if not known:
                return None
            first, links = linked([context.span for context in known])
            span = self._begun(first, links)
            requests = tuple(dict.fromkeys(one for context in known for one in context.requests))
            whom = replace(known[0], span=first if span is None else span.context, requests=requests)
            self._said = whom, span
        return self._said[0]

    def _begun(self, parent: TraceContext, links: Sequence[TraceContext]) -> Span | None:
        if not parent.sampled or self._recorder is None:
            return None
        attributes: Attributes = {
            "quorate.rows": self._rows, "quorate.calls": len(self._contexts), "quorate.queue_wait_s": self._waited_s,
            "quorate.device": self._device,
        }  # fmt: skip
        name = f"forward {self._member}"
        return self._recorder.start(name, parent, SpanKind.SERVER, attributes, links, start_ns=self._began_ns)

    def _span(self) -> Span | None:
        """It is sent."""
        return None if self._whom() is None or self._said is None else self._said[1]
