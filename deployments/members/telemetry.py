"""What a member's process records of forward passes, and for whom its lines are; fusion replicas say how."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from quorate.deployments.telemetry.batch_trace import linked
from quorate.deployments.telemetry.call_context import CallContext, read_call_context
from quorate.deployments.telemetry.current import stop_working, work_for
from quorate.deployments.telemetry.settings import LogSettings, Telemetry
from quorate.deployments.telemetry.spans import Span, SpanKind
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

    @contextmanager
    def forward(self, contexts: Sequence[str], rows: int, waited_s: float, device: str) -> Iterator[None]:
        """One forward pass.

        Args:
            contexts: of the calls that it answers, as they came.
            waited_s: how long the first of them has waited.
        """
        known = [found for text in contexts if (found := read_call_context(text)) is not None]
        if not known:
            yield
            return
        first, links = linked([context.span for context in known])
        span = None
        if first.sampled and self._tracer.recorder is not None:
            span = self._tracer.recorder.start(f"forward {self._member}", first, SpanKind.SERVER, links=links)
            span.set({"quorate.rows": rows, "quorate.calls": len(contexts)})
            span.set({"quorate.queue_wait_s": waited_s, "quorate.device": device})
        whom = replace(
            known[0],
            span=first if span is None else span.context,
            requests=tuple(dict.fromkeys(one for context in known for one in context.requests)),
        )
        began = time.monotonic()
        with _working(whom, span):
            yield
            if self._tracer.settings.logs.verbose > 1:
                self._log(f"ran {rows} rows of {len(contexts)} calls in {(time.monotonic() - began) * 1e3:.2f} ms")


@contextmanager
def _working(whom: CallContext, span: Span | None) -> Iterator[None]:
    token = work_for(whom)
    try:
        yield
    finally:
        stop_working(token)
        if span is not None:
            span.end()
