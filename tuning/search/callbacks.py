"""Ray Tune's callbacks, such as MLflow's and Weights & Biases', told of a sweep's trials.

With mlflow installed ``ray.air.integrations.mlflow.MLflowLoggerCallback(tracking_uri="sqlite:///runs.db",
experiment_name="digits")`` keeps each trial as a run; W&B's is
``ray.air.integrations.wandb.WandbLoggerCallback(project="digits")``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorate.tuning.search.generations import Task


@dataclass(eq=False)
class CallbackTrial:
    """A trial with the attributes that callbacks read of ``ray.tune.experiment.Trial``."""

    trial_id: str
    trainable_name: str
    config: dict[str, Any]
    local_path: str
    experiment_dir_name: str
    last_result: dict[str, Any] = field(default_factory=dict)

    @property
    def evaluated_params(self) -> dict[str, Any]:
        return self.config

    def __str__(self) -> str:
        return self.trial_id


class Callbacks:
    """Hands what happens to ``ray.tune.Callback`` objects, in the driver, one after another."""

    def __init__(self, callbacks: Sequence[Any], folder: Path):
        """
        Args:
            folder: the run's.
        """
        self._callbacks, self._folder = callbacks, folder
        self._run = uuid.uuid4().hex[:8]
        self._trials: dict[tuple[str, int], CallbackTrial] = {}
        self._told = 0

    def start(self, phase: str, name: str, task: Task) -> None:
        """A trial starts, or starts again."""
        if not self._callbacks:
            return
        trial = self._trials.get((phase, task.number))
        if trial is None:
            place = self._folder / "trials" / phase / f"{task.number:05d}"
            place.mkdir(parents=True, exist_ok=True)
            trial = CallbackTrial(
                f"{self._run}_{phase}_{task.number:05d}", name, dict(task.config), str(place), self._folder.name
            )
            self._trials[phase, task.number] = trial
        self._tell("on_trial_start", trial=trial)

    def report(self, phase: str, number: int, values: Mapping[str, Any], done: bool) -> None:
        """A trial reports; ``done`` with its last values."""
        if not self._callbacks:
            return
        trial = self._trials[phase, number]
        steps = trial.last_result.get("training_iteration", 0) + 1
        own = {"training_iteration": steps, "trial_id": trial.trial_id, "done": done}
        trial.last_result = {**values, **own}
        self._tell("on_trial_result", trial=trial, result=trial.last_result)
        if done:
            self._tell("on_trial_complete", trial=trial)

    def fail(self, phase: str, number: int) -> None:
        """A trial is given up."""
        if self._callbacks:
            self._tell("on_trial_error", trial=self._trials[phase, number])

    def __enter__(self) -> Callbacks:
        for callback in self._callbacks:
            callback.setup(stop=None, num_samples=-1, total_num_samples=-1)
        return self

    def __exit__(self, *_: object) -> None:
        for callback in self._callbacks:
            callback.on_experiment_end(trials=list(self._trials.values()))

    def _tell(self, event: str, **values: Any) -> None:
        self._told += 1
        for callback in self._callbacks:
            getattr(callback, event)(iteration=self._told, trials=list(self._trials.values()), **values)
