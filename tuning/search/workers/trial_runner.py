"""The trials of one phase on a pool of workers: started, reported, tried again where a worker died.

The generations decide what to try and know, from the journal, what has run: a sweep survives its driver and finds the
same on one worker as on four.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import ray

from quorate.deployments.spec.schema import Resources
from quorate.tuning.search.callbacks import Callbacks
from quorate.tuning.search.generations import Generations
from quorate.tuning.search.workers.trial_queue import TrialQueue
from quorate.tuning.search.workers.worker_pool import Report, WorkerPool

_WAIT_S = 1.0
# For what ends a training beside its epochs, and for an epoch that takes longer than those before it.
_GRACE_S = 5.0


@dataclass(frozen=True)
class Phase:
    """Trials of one kind.

    Attributes:
        name: of its folder in the journal.
        trial: a class made from a task's config and ``shared``, see ``worker_pool.Trial``.
        shared: what all trials of the phase read; it lies in the cluster's object store once.
        resources: of each trial.
        until: monotonic time by which trials are to end, or None.
        least_s: seconds that a trial must have until then to be started.
        most_s: seconds that a trial may take, where ``until`` is given.
    """

    name: str
    trial: type
    shared: Any
    resources: Resources
    until: float | None = None
    least_s: float = 0.0
    most_s: float = math.inf

    @property
    def late(self) -> bool:
        """Whether no trial starts any more."""
        return self.until is not None and time.monotonic() > self.until - self.least_s

    def over(self, running: int) -> bool:
        """Whether so many running trials are given up."""
        return self.late and (running == 0 or time.monotonic() > (self.until or 0.0) + _GRACE_S)

    def limits(self) -> dict[str, float]:
        """What a trial that starts now is told beside its config."""
        return {} if self.until is None else {"left_s": min(self.most_s, self.until - time.monotonic())}


def run_trials(pool: WorkerPool, phase: Phase, generations: Generations, callbacks: Callbacks) -> bool:
    """Run a phase.

    Returns:
        Whether all ran; False when the time was up.

    Raises:
        QuorateError: what ``generations`` raised, such as a full disk.
    """
    queue = TrialQueue(generations)
    pool.hold(phase.resources)
    shared = ray.put(phase.shared)
    try:
        while not phase.over(queue.running):
            waiting = 0 if phase.late else queue.waiting()
            if queue.ended:
                return True
            pool.grow(waiting)
            while waiting and pool.idle():
                task = queue.start()
                callbacks.start(phase.name, phase.trial.__name__, task)
                pool.begin(task.number, phase.trial, {**task.config, **phase.limits()}, shared)
                waiting -= 1
            for report in pool.wait(_WAIT_S):
                _take(report, phase.name, queue, callbacks)
        return False
    finally:
        pool.stop_trials()


def _take(report: Report, phase: str, queue: TrialQueue, callbacks: Callbacks) -> None:
    if report.died:
        if not queue.lose(report.number):
            callbacks.fail(phase, report.number)
        return
    callbacks.report(phase, report.number, report.values, done=report.outcome is not None)
    if report.outcome is not None:
        queue.finish(report.number, report.outcome)
