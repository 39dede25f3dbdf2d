"""What a fusion replica does for later: it records answers and takes labels, as the live spec's ``record`` says.

Shadow fusions are computed beside that, and drift is looked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from quorate.deployments.engine.engine import Engine
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.drift.watch import DriftWatch
from quorate.deployments.learning.feedback import Feedback, Others, Verdict
from quorate.deployments.learning.recorder import Recorder
from quorate.deployments.learning.shadows.shadow_fusions import ShadowFusions
from quorate.deployments.spec.fields.drift import DriftSpec
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.deployments.wire.feedback import FeedbackReply, GivenLabel


class Learning:
    """Follows what is live; on the engine's event loop.

    Attributes:
        shadows: fusions that are computed beside the live one.
        others: says what other doors make of labels for answers that nobody who records here has given; None where
            there are none.
        drift: looks for it; None where the live spec does not ask for that.
    """

    def __init__(self, engine: Engine):
        self._engine, self.shadows = engine, ShadowFusions(engine)
        self.others: Others | None = None
        self._settings: RecordSpec | None = None
        self.drift: DriftWatch | None = None
        self._drift_settings: DriftSpec | None = None
        self._recorder: Recorder | None = None
        self._feedback: Feedback | None = None
        # Recorders that the live spec wants no more: what was asked before is recorded until then.
        self._ending: list[tuple[float, Recorder]] = []
        self._closing: set[asyncio.Future[None]] = set()
        engine.metrics.shadows.report = self.shadows.report
        engine.metrics.state.record = lambda: None if self._recorder is None else self._recorder.held
        self.tick()

    def tick(self) -> None:
        """Do as the live spec says now, and let the record have what was answered: call this about twice a second."""
        settings = self._engine.revision.spec.record
        if settings != self._settings:
            self._follow(settings)
        if self._recorder is not None:
            self._recorder.tick()
        for until, recorder in list(self._ending):
            recorder.tick()
            if time.monotonic() > until:
                self._ending.remove((until, recorder))
                self._close_later(recorder)
        self.shadows.tick()
        if self._engine.revision.spec.drift != self._drift_settings:
            self._follow_drift(self._engine.revision.spec.drift)
        if self.drift is not None:
            self.drift.tick()

    async def take(self, labels: Sequence[GivenLabel]) -> FeedbackReply:
        """Labels for answers; who is told of them can rely on those that are accepted.

        Raises:
            RequestError: there is no record here.
            OverloadedError: too many labels wait to be written.
            UnavailableError: they cannot be written.
        """
        taking = self._taking()
        return await asyncio.wrap_future(taking.give(self._engine.revision.spec, labels, self.others))

    async def judge(self, labels: Sequence[GivenLabel]) -> list[Verdict]:
        """The same for another door, which is told of each; no other is asked. Raises as ``take``."""
        return await asyncio.wrap_future(self._taking().judge(self._engine.revision.spec, labels))

    def told_drift(self) -> dict[str, Any]:
        """How far members and answers have drifted, from any thread; of no revision where nothing is watched."""
        watch = self.drift
        return {"revision": "", "outputs": {}} if watch is None else watch.report()

    def close(self) -> None:
        """Write what there is."""
        self._engine.answers.keeper = None
        self.shadows.close()
        for one in (self._recorder, *(recorder for _, recorder in self._ending), self._feedback, self.drift):
            if one is not None:
                one.close()

    def _taking(self) -> Feedback:
        if self._feedback is None:
            raise RequestError("nothing is recorded here, and no label has a place; deploy with record: {folder: ...}")
        return self._feedback

    def _follow(self, settings: RecordSpec | None) -> None:
        if self._recorder is not None:
            self._ending.append((time.monotonic() + self._engine.revision.deadline_s + 1.0, self._recorder))
        if self._feedback is not None:
            self._close_later(self._feedback)
        self._settings, self._recorder, self._feedback = settings, None, None
        replica, metrics, name = self._engine.answers.replica, self._engine.metrics, self._engine.spec.name
        if settings is not None:
            self._feedback = Feedback(name, settings, replica, metrics)
            self._recorder = Recorder(name, settings, replica, metrics)
        self._engine.answers.keeper = self._recorder
        self.shadows.judge_by("" if settings is None else settings.folder_of(name))

    def _follow_drift(self, settings: DriftSpec | None) -> None:
        if self.drift is not None:
            self.drift.leave()
            self._close_later(self.drift)
        self._drift_settings = settings
        self.drift = None if settings is None else DriftWatch(self._engine, settings)

    def _close_later(self, one: Recorder | Feedback | DriftWatch) -> None:
        """On another thread: it waits for its own."""
        closing = asyncio.get_running_loop().run_in_executor(None, one.close)
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
