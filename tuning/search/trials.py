"""Trials of one phase on Ray Tune: actors are reused, generations are handed out, outcomes go into the journal.

Tune decides where and when a trial runs, spreads trials over nodes and GPUs, and starts one again whose worker died.
What to try, and what has run already, is ours: ``Generations`` proposes from the journal, so that a sweep survives its
driver and finds the same on one worker as on four.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ray import cloudpickle, tune
from ray.tune.search import Searcher

from quorate.deployments.spec.schema import Resources
from quorate.tuning.errors import SweepError

_WORKER_DEATHS = 3
# Until Ray gives up a node that is lost (health checks every 3 s, five missed) it starts workers there, which die at
# once. A trial whose workers died so is tried once more when that is over.
_ROUNDS, _PAUSE_S = 2, 30.0

Report = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """One trial to run: its number in its phase, and what its worker is told."""

    number: int
    config: Mapping[str, Any]


class Generations(Protocol):
    """Where tasks come from and outcomes go.

    A trial's last report holds ``done`` and ``outcome``, JSON: Tune takes nested results apart.
    """

    def next(self) -> Sequence[Task] | None:
        """Tasks of the next generation that have not run yet; empty at the end, None while it is too early to tell.

        A generation is proposed while the one before it runs, from all that came before that: no worker waits for the
        slowest trial, and Tune, which stops actors when nothing is staged, keeps them.
        """

    def done(self, number: int, outcome: Mapping[str, Any] | None) -> None:
        """Take in what a trial reported last; None when its worker died again and again."""


def generation(number: int, parallel: int, trials: int) -> tuple[range, range]:
    """The trials of a generation, and those that must have ended before it is proposed."""
    start = number * parallel
    return range(start, min(start + parallel, trials)), range(start - parallel)


def unfinished(number: int, parallel: int, trials: int, finished: Container[int]) -> tuple[int, range, range] | None:
    """The first generation from ``number`` on with trials to run, the empty one at the end; None while it is early."""
    while True:
        numbers, before = generation(number, parallel, trials)
        if numbers and any(one not in finished for one in before):
            return None
        if not numbers or any(one not in finished for one in numbers):
            return number, numbers, before
        number += 1


@dataclass(frozen=True)
class Limits:
    """How a phase runs.

    Attributes:
        resources: of each trial.
        parallel: trials in a generation; at most twice as many run at once.
        workers: trials at once; as many as the cluster has room for when None.
        until: monotonic time at which running trials are given up, or None.
        callbacks: ``ray.tune.Callback`` objects, such as MLflow's and Weights & Biases' of ``ray.air.integrations``.
    """

    resources: Resources
    parallel: int
    workers: int | None = None
    until: float | None = None
    callbacks: Sequence[Any] = ()


def run_trials(
    trainable: Any,
    generations: Generations,
    limits: Limits,
    on_report: Report | None = None,
) -> bool:
    """Run a phase on the cluster this process is connected to.

    Args:
        trainable: a ``tune.Trainable`` that can be reset; the task's number is ``config["number"]``.
        generations: proposes and takes in.
        limits: resources and time.
        on_report: told each intermediate report.

    Returns:
        Whether all ran; False when the time was up.

    Raises:
        QuorateError: what ``generations`` raised, such as a full disk.
    """
    phase = _Phase(generations, limits.until, on_report)
    try:
        with _tune_settings(limits.parallel), tempfile.TemporaryDirectory(prefix="quorate-tune-") as place:
            _fit(trainable, phase, limits, place)
    finally:
        phase.close()
    if phase.error is not None:
        raise phase.error
    return phase.ended


def _fit(trainable: Any, phase: _Phase, limits: Limits, place: str) -> None:
    _check_callbacks(limits.callbacks)
    tuner = tune.Tuner(
        tune.with_resources(trainable, _bundle(limits.resources)),
        tune_config=tune.TuneConfig(
            search_alg=_Feed(phase), num_samples=-1, reuse_actors=True, max_concurrent_trials=limits.workers
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=place,  # Tune's own record; ours is the journal
            verbose=0,
            stop=_Stop(phase),
            callbacks=[*limits.callbacks, _Reports(phase)],
            failure_config=tune.FailureConfig(max_failures=_WORKER_DEATHS - 1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        if phase.error is None:
            found = f"Ray Tune stopped ({type(error).__name__}: {str(error).strip().splitlines()[-1][:200]})"
            raise SweepError("the sweep", found, "see the cluster's logs, then go on with --resume") from error


class _Phase:
    """What the parts below share. Tune copies and pickles them; every copy in this process is this object."""

    def __init__(self, generations: Generations, until: float | None, on_report: Report | None):
        self.generations, self.until, self.on_report = generations, until, on_report
        self.waiting: deque[Task] = deque()
        self.paused: deque[tuple[float, Task]] = deque()  # from when on they are tried again
        self.rounds: Counter[int] = Counter()
        self.running: dict[str, Task] = {}
        self.handed_out = False
        self.error: Exception | None = None
        self._key = next(_KEYS)
        _PHASES[self._key] = self

    def __reduce__(self) -> tuple[Callable[[int], _Phase], tuple[int]]:
        return _phase, (self._key,)

    def close(self) -> None:
        del _PHASES[self._key]

    @property
    def over(self) -> bool:
        late = self.until is not None and time.monotonic() > self.until
        return self.error is not None or late

    @property
    def ended(self) -> bool:
        """Nothing is left to do: what still runs may have to be tried again, and Tune asks no more once it is told."""
        return self.handed_out and not (self.waiting or self.paused or self.running)

    def try_again(self, task: Task) -> bool:
        """Pause a task whose workers died; False when it had its rounds."""
        self.rounds[task.number] += 1
        if self.rounds[task.number] >= _ROUNDS:
            return False
        self.paused.append((time.monotonic() + _PAUSE_S, task))
        return True

    def take(self) -> None:
        tasks = self.generations.next()
        if tasks is not None:
            self.waiting.extend(tasks)
            self.handed_out = not tasks

    def guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # Tune would bury it under its own
            self.error = error


_KEYS = itertools.count()
_PHASES: dict[int, _Phase] = {}


def _phase(key: int) -> _Phase:
    return _PHASES[key]


class _Feed(Searcher):
    """Hands out tasks as they come."""

    def __init__(self, phase: _Phase):
        super().__init__()
        self._phase = phase

    def suggest(self, trial_id: str) -> Any:
        phase = self._phase
        if phase.paused and time.monotonic() >= phase.paused[0][0]:
            phase.waiting.append(phase.paused.popleft()[1])
        if not (phase.over or phase.handed_out or phase.waiting):
            phase.guarded(phase.take)
        if phase.over or phase.ended:
            return Searcher.FINISHED
        if not phase.waiting:
            return None
        phase.running[trial_id] = task = phase.waiting.popleft()
        return dict(task.config)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        phase = self._phase
        words = None if error or result is None else result.get("outcome")
        if trial_id not in phase.running or phase.error is not None or (words is None and phase.over):
            return  # stopped from outside: the trial runs again when the sweep is taken up
        task = phase.running.pop(trial_id)
        if error and phase.try_again(task):
            return
        outcome = None if words is None else json.loads(words)
        phase.guarded(lambda: phase.generations.done(task.number, outcome))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal knows."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal knows."""


class _Stop(tune.Stopper):
    def __init__(self, phase: _Phase):
        self._phase = phase

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._phase.over


class _Reports(tune.Callback):
    def __init__(self, phase: _Phase):
        self._phase = phase

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if self._phase.on_report is not None:
            self._phase.on_report(trial.config["number"], result)


def _check_callbacks(callbacks: Sequence[Any]) -> None:
    """Tune writes callbacks down with its own state.

    Raises:
        SweepError: one that cannot be.
    """
    for callback in callbacks:
        try:
            cloudpickle.dumps(callback)
        except Exception as error:
            fix = "open files and connections in its setup(), not before"
            raise SweepError(f"callback {type(callback).__name__}", f"cannot be pickled ({error})", fix) from None


def _bundle(resources: Resources) -> dict[str, float]:
    return {"cpu": resources.num_cpus, **({"gpu": resources.num_gpus} if resources.num_gpus else {})}


@contextmanager
def _tune_settings(parallel: int) -> Iterator[None]:
    """Tune reads these from the environment, and logs to the terminal what is told through callbacks."""
    wanted = {
        # With a searcher Tune keeps one pending trial by default: trials would start one after the other.
        "TUNE_MAX_PENDING_TRIALS_PG": str(parallel),
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a banner however quiet it is told to be
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
    before = {name: os.environ.get(name) for name in wanted}
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train")]
    levels = [logger.level for logger in loggers]
    os.environ.update(wanted)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
