"""Which requests are traced, and of these which are recorded: the share is drawn before anything is spent on one."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace

from quorate.deployments.telemetry.settings import Telemetry, TraceSettings
from quorate.deployments.telemetry.spans import Attributes, Recorder, Span, SpanKind, wall_ns
from quorate.deployments.telemetry.trace_context import TraceContext, new_context
from quorate.fusion.errors import MissingExtraError
from quorate.fusion.extras import require

_log = logging.getLogger(__name__)

LAST_SPANS_S = 2.0
# Requests to which one draw applies, where no batch ends that before.
MOST_DRAWN = 64

MakeRecorder = Callable[[str, str, str], Recorder]


class RequestTrace:
    """A request that is traced.

    Attributes:
        recorder: None where it is passed on and not recorded.
        span: its door's.
        context: that its parts belong to.
        request_id: what its client calls it; empty where it has no name.
    """

    __slots__ = ("context", "recorder", "request_id", "span")

    def __init__(self, context: TraceContext, recorder: Recorder | None = None, span: Span | None = None):
        self.context, self.recorder, self.span = context, recorder, span
        self.request_id = ""

    @property
    def kept_as(self) -> str:
        """The trace's id in hexadecimal digits, where it is recorded here or by whom it came from; else empty."""
        return f"{self.context.trace_id:032x}" if self.context.sampled else ""

    def named(self, request_id: str) -> None:
        """The request has been read."""
        self.request_id = request_id
        if self.span is not None and request_id:
            self.span.set({"quorate.request_id": request_id})


class Tracer:
    """Of one process.

    Attributes:
        settings: those that hold now.
        share: of requests that come without a trace, how many ``begin`` is to be asked about; 0 for none.
    """

    def __init__(self, service: str, instance: str, make: MakeRecorder | None = None):
        self.settings, self.share = Telemetry(), 0.0
        self._service, self._instance, self._make = service, instance, make or _otlp_recorder
        self._recorder: Recorder | None = None
        self._left: dict[str, int] = {}  # how many may yet be drawn, by model
        self._wanted, self._lock = self.settings, threading.Lock()
        self.draw()

    @property
    def recorder(self) -> Recorder | None:
        """Where spans go; None while none are recorded."""
        return self._recorder

    def use(self, settings: Telemetry) -> None:
        """Go by other settings from now on. Loading what records takes a while: call this where nobody waits.

        Raises:
            MissingExtraError: traces are on, and ``quorate[otel]`` is not here; the old settings stay.
        """
        self._wanted = settings
        with self._lock:
            if settings is self._wanted:  # else others have been asked for meanwhile
                self._use(settings)

    def _use(self, settings: Telemetry) -> None:
        again = settings.endpoint != self.settings.endpoint or settings.traces != (self._recorder is not None)
        recorder = self._recorder
        if again:
            recorder = None
            if settings.traces:
                require("otel", "traces")
                recorder = self._make(settings.endpoint, self._service, self._instance)
        self._exchange(recorder, settings)

    def adopt(self, settings: Telemetry) -> None:
        """The same of settings that hold elsewhere: where spans cannot be recorded here, all but that is done."""
        try:
            self.use(settings)
        except MissingExtraError as error:
            _log.warning("no spans are sent from here: %s", error)
            self.use(replace(settings, trace=TraceSettings(), models={}))

    def begin(
        self,
        model: str,
        given: TraceContext | None,
        name: str,
        attributes: Callable[[], Attributes],
        began_s: float | None = None,
    ) -> RequestTrace | None:
        """A request has come in; None where nothing of it is to be traced.

        Args:
            given: the trace that it came with; of those without one ask only where ``looks`` says so.
            attributes: of its span, asked for only where it is recorded.
            began_s: when it has come in (monotonic time); now when None.
        """
        recorder = self._recorder
        if recorder is not None and self._recorded(model, given):
            start_ns = None if began_s is None else wall_ns(began_s)
            span = recorder.start(name, given, SpanKind.SERVER, attributes(), start_ns=start_ns)
            return RequestTrace(span.context, recorder, span)
        if given is not None:
            return RequestTrace(given)
        return RequestTrace(new_context()) if self._names_all() else None

    def looks(self) -> bool:
        """Whether to ask ``begin`` about a request that comes without a trace; for most this is all that is done."""
        if self.share <= 0:
            return False
        self._drawn_for += 1
        if self._drawn_for > MOST_DRAWN:
            self.draw()
        return self._drawn < self.share

    def draw(self) -> None:
        """Draw anew, for the requests from now on: once for those that will share a batch.

        The spans of a batch are then of many requests or not there at all, where drawn one by one a hundredth of the
        requests would have a third of the batches traced, of 36 requests each.
        """
        self._drawn, self._drawn_for = random.random(), 0

    def left(self, model: str) -> int:
        """How many requests to a model may yet be drawn; -1 for any number."""
        return self._left.get(self._counted(model), self.settings.of(model).count)

    def close(self) -> None:
        """Send what is there, for ``LAST_SPANS_S`` at most: a receiver that is away keeps nobody from stopping."""
        if self._recorder is not None:
            _closing(self._recorder).join(LAST_SPANS_S)

    def _recorded(self, model: str, given: TraceContext | None) -> bool:
        settings = self.settings.of(model) if self.settings.models else self.settings.trace
        if not settings.on:
            return False
        if given is not None:
            return given.sampled
        return self._drawn < settings.ratio and self._counts(model)

    def _counts(self, model: str) -> bool:
        if self.settings.of(model).count < 0:
            return True
        key = self._counted(model)
        left = self._left.get(key, self.settings.of(model).count)
        if left > 0:
            self._left[key] = left - 1
        return left != 0

    def _counted(self, model: str) -> str:
        return model if "count" in self.settings.models.get(model, ()) else ""

    def _names_all(self) -> bool:
        return self.settings.logs.format == "json" or self.settings.logs.verbose > 0

    def _exchange(self, recorder: Recorder | None, settings: Telemetry) -> None:
        old, self._recorder = self._recorder, recorder
        for model in {"", *settings.models, *self.settings.models}:
            if settings.of(model).times_counted != self.settings.of(model).times_counted:
                self._left.pop(model, None)
        self.settings = settings
        if self._names_all() or (recorder is not None and settings.models):
            self.share = 1.0
        else:
            self.share = 0.0 if recorder is None else settings.trace.ratio
        if old is not None and old is not recorder:
            _closing(old)


def _closing(recorder: Recorder) -> threading.Thread:
    thread = threading.Thread(target=recorder.close, name="last-spans", daemon=True)
    thread.start()
    return thread


def _otlp_recorder(endpoint: str, service: str, instance: str) -> Recorder:
    from quorate.deployments.telemetry.otlp import OtlpRecorder

    return OtlpRecorder(endpoint, service, instance or str(os.getpid()))
