"""The trials of one phase on a pool of workers: started, reported, tried again where a worker died.

The generations decide what to try and know, from the journal, what has run: a sweep survives its driver and finds the
same on one worker as on four.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray

from quorate.deployments.spec.schema import Resources
from quorate.tuning.search.callbacks import Callbacks
from quorate.tuning.search.generations import Generations
from quorate.tuning.search.trial_queue import TrialQueue
from quorate.tuning.search.worker_pool import Report, WorkerPool

_WAIT_S = 1.0


@dataclass(frozen=True)
class Phase:
    """Trials of one kind.

    Attributes:
        name: of its folder in the journal.
        trial: a class made from a task's config and ``shared``, see ``worker_pool.Trial``.
        shared: what all trials of the phase read; it lies in the cluster's object store once.
        resources: of each trial.
        until: monotonic time at which running trials are given up, or None.
    """

    name: str
    trial: type
    shared: Any
    resources: Resources
    until: float | None = None

    @property
    def late(self) -> bool:
        return self.until is not None and time.monotonic() > self.until


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
        while not phase.late:
            waiting = queue.waiting()
            if queue.ended:
                return True
            pool.grow(waiting)
            while waiting and pool.idle():
                task = queue.start()
                callbacks.start(phase.name, phase.trial.__name__, task)
                pool.begin(task.number, phase.trial, task.config, shared)
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
