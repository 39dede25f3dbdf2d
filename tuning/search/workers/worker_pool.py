"""Processes on the cluster that a sweep's work runs in: started when needed, kept from one phase to the next.

A process that has imported torch and the members' code takes about four seconds of CPU to start. Ray Tune's actors end
with the phase they were started for (Tune keeps one idle actor, and one trainable a run), so a sweep keeps its own.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayError, RayTaskError

from quorate.deployments.control.forked_workers import worker_options
from quorate.deployments.control.placement import actor_options
from quorate.deployments.spec.schema import Resources
from quorate.tuning.errors import SweepError
from quorate.tuning.ray_session import MODULES, check_room, held_to, use_own_cpus

# Until Ray gives up a node that is lost (health checks every 3 s, five missed) it may start workers there, which die.
_FAILED_STARTS, _RETRY_S = 12, 3.0
_CALLS = 3


class Trial(Protocol):
    """What a worker runs: made from a task's config and what its phase shares, then stepped to its end."""

    def step(self) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
        """Values to report, and the outcome after the last step, else None."""


MakeTrial = Callable[[Mapping[str, Any], Any], Trial]


@dataclass(frozen=True)
class Report:
    """What came from a worker: ``values`` and ``outcome`` of a step, or ``died``."""

    number: int
    values: Mapping[str, Any]
    outcome: Mapping[str, Any] | None = None
    died: bool = False


class _Process:
    """The worker's end."""

    def __init__(self, resources: Resources) -> None:
        use_own_cpus(resources)
        self._trial: Trial | None = None
        # The object store's arrays are read-only; no trial writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")

    def begin(self, make: MakeTrial, config: Mapping[str, Any], shared: Any) -> Any:
        self._trial = make(config, shared)
        return self.step()

    def step(self) -> Any:
        assert self._trial is not None
        values, outcome = self._trial.step()
        if outcome is not None:
            self._trial = None  # its network, perhaps on a GPU, and its rows in the object store are free
        return {**values, "pid": os.getpid(), "node_ip": ray.util.get_node_ip_address()}, outcome

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


class _Worker:
    """The driver's end: starting until its first answer, idle, or running the trial ``number``."""

    def __init__(self, resources: Resources, held: Mapping[str, str]):
        options = actor_options(resources) | worker_options(MODULES)
        if held:
            options["label_selector"] = {**options.get("label_selector", {}), **held}
        if "label_selector" not in options:
            options["scheduling_strategy"] = "SPREAD"
        actor: Any = ray.remote(_Process)
        self.actor = actor.options(**options).remote(resources)
        self.number: int | None = None
        self.answer: Any = self.actor.__ray_ready__.remote()

    @property
    def idle(self) -> bool:
        return self.answer is None

    def begin(self, number: int, make: MakeTrial, config: Mapping[str, Any], shared: Any) -> None:
        self.number, self.answer = number, self.actor.begin.remote(make, config, shared)

    def step(self) -> None:
        self.answer = self.actor.step.remote()


class WorkerPool:
    """Workers of one size, at most ``most`` of them, on those nodes of the cluster that see the run's folder."""

    def __init__(self, most: int, folder: Path):
        self._most, self._folder = most, folder
        self._held: Mapping[str, str] | None = None
        self._resources: Resources | None = None
        self._workers: list[_Worker] = []
        self._failed_starts, self._start_after = 0, 0.0

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers: what they hold on the cluster is free for others."""
        self._end(self._workers)

    def hold(self, resources: Resources) -> None:
        """Have workers that hold these resources; those that hold others end.

        Raises:
            SweepError: no node has as much.
        """
        if self._held is None:
            self._held = held_to(self._folder)
        check_room(resources, self._held)
        if resources != self._resources:
            self.close()
            self._resources = resources

    def room(self, resources: Resources) -> int:
        """How many workers that hold these resources the cluster has room for, at least 1."""
        found: Any = ray.cluster_resources()
        wanted = {"CPU": resources.num_cpus, "GPU": resources.num_gpus}
        fitting = [int(found.get(name, 0.0) // count) for name, count in wanted.items() if count > 0]
        return max(1, min([self._most, *fitting]))

    def grow(self, tasks: int) -> None:
        """Start workers so that the tasks that wait can run, as far as there may be workers."""
        if time.monotonic() < self._start_after:
            return
        assert self._resources is not None
        assert self._held is not None
        free = sum(worker.number is None for worker in self._workers)
        for _ in range(min(tasks - free, self._most - len(self._workers))):
            self._workers.append(_Worker(self._resources, self._held))

    def idle(self) -> bool:
        """Whether a worker waits for something to do."""
        return any(worker.idle for worker in self._workers)

    def begin(self, number: int, make: MakeTrial, config: Mapping[str, Any], shared: Any) -> None:
        """Start a trial on an idle worker; ``shared`` is what ``ray.put`` gave."""
        next(worker for worker in self._workers if worker.idle).begin(number, make, config, shared)

    def wait(self, timeout_s: float) -> list[Report]:
        """What running trials report within ``timeout_s``; those that have not ended are at their next step already."""
        waited_for = {worker.answer: worker for worker in self._workers if not worker.idle}
        if not waited_for:
            time.sleep(min(timeout_s, _RETRY_S))  # no worker could be started a moment ago
            return []
        answers, _ = ray.wait(list(waited_for), timeout=timeout_s)
        found = (self._take(waited_for[answer]) for answer in answers)
        return [report for report in found if report is not None]

    def stop_trials(self) -> None:
        """End the workers that run a trial."""
        self._end([worker for worker in self._workers if worker.number is not None])

    def call(self, resources: Resources, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function on a worker that holds these resources, while no trial runs, and give what it returns.

        Raises:
            SweepError: the worker died each time, or no node has as much.
            Exception: what the function raised.
        """
        self.hold(resources)
        for _ in range(_CALLS):
            while not self.idle():
                self.grow(1)
                self.wait(_RETRY_S)
            worker = next(worker for worker in self._workers if worker.idle)
            try:
                return _result(worker.actor.call.remote(function, *args))
            except RayError:
                self._end([worker])
        raise SweepError(function.__name__, f"its worker died {_CALLS} times", "see the cluster's logs")

    def _take(self, worker: _Worker) -> Report | None:
        number, answer = worker.number, worker.answer
        try:
            found = _result(answer)
        except RayError as error:
            self._end([worker])
            if number is None:
                self._start_failed(error)
                return None
            return Report(number, {}, died=True)
        worker.answer = None
        self._failed_starts = 0
        if number is None:
            return None
        values, outcome = found
        if outcome is None:
            worker.step()
        else:
            worker.number = None
        return Report(number, values, outcome)

    def _start_failed(self, error: Exception) -> None:
        self._failed_starts += 1
        self._start_after = time.monotonic() + _RETRY_S
        if self._failed_starts >= _FAILED_STARTS:
            found = f"they cannot be started ({str(error).strip().splitlines()[-1][:200]})"
            raise SweepError("workers", found, "see the cluster's logs, then go on with --resume") from error

    def _end(self, workers: list[_Worker]) -> None:
        self._workers = [worker for worker in self._workers if worker not in workers]
        for worker in workers:
            ray.kill(worker.actor)


def _result(answer: Any) -> Any:
    """What a worker gave.

    Raises:
        RayError: the worker is gone: it died, ran out of memory or was on a lost node.
        Exception: what the worker's own code raised, as it was raised there.
    """
    try:
        return ray.get(answer)
    except RayTaskError as error:
        raise error.cause from error
