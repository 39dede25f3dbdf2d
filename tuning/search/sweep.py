"""Search the architecture of an ensemble: train members, try structures on what they predict, write specs.

Entry points::

    result = sweep(SearchSpace(name="digits"), digits(), member_trials=16, trials=200, runs=Path("runs"))
    result.best.spec, result.pareto, result.to_pandas(), result.verdict
    resume_sweep(result.folder, digits())
"""

# M members, N rows, C classes

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.atomic_files import write_whole
from quorate.tuning.data.datasets import Labelled, Splits, check_labelled
from quorate.tuning.errors import DataError, SweepError
from quorate.tuning.latency.curves import Measured
from quorate.tuning.runs.run_folder import new_run_folder
from quorate.tuning.search.journal import Finished, holding, saving
from quorate.tuning.search.sampler import SamplerName
from quorate.tuning.search.space import Objective, SearchSpace

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped,unused-ignore]

    from quorate.tuning.search.latency_check import LatencyCheck
    from quorate.tuning.search.pareto import Pick

_SETTINGS = "sweep.json"
_SHOWN_PICKS = 5
# Members stop on rows of their own, so that the validation rows judge them as they judge everybody else.
_STOPPING_SHARE = 8


class Settings(BaseModel):
    """All that decides what a sweep does, beside the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: SearchSpace
    trials: int = Field(ge=1)
    member_trials: int = Field(ge=0)
    objectives: tuple[Objective, ...] = Field(min_length=1)
    sampler: SamplerName
    seed: int = Field(ge=0)
    parallel: int = Field(ge=1)
    origin: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where a sweep is.

    Attributes:
        phase: members, measuring, structures or report.
        finished, failed, total: trials of the phase.
        best: of the best trial so far, its values; of members, their log-loss alone.
        said: something the user should know, once.
    """

    phase: str
    finished: int = 0
    failed: int = 0
    total: int = 0
    best: Mapping[str, float] | None = None
    said: str | None = None


@dataclass(frozen=True)
class How:
    """What decides no result: time, workers and who is told; as ``sweep``'s arguments."""

    time_s: float | None
    workers: int | None
    callbacks: tuple[Any, ...]
    on_progress: Callable[[Progress], None]
    check: int = 1


@dataclass(frozen=True, repr=False)
class SweepResult(Displayed):
    """What a sweep found.

    Attributes:
        folder: the run's; ``pareto/0/spec.yaml`` and so on are deployable, ``report.html`` shows it all.
        pareto: structures that none other betters in every objective, the lowest first objective first.
        structures, members: all finished trials.
        objectives: what was made small.
        complete: False when the time was up before all trials had run.
        seconds: of each phase.
        latency: what the prediction of it was worth, by place in the Pareto set.
    """

    folder: Path
    pareto: tuple[Pick, ...]
    structures: tuple[Finished, ...]
    members: tuple[Finished, ...]
    objectives: tuple[Objective, ...]
    complete: bool
    seconds: Mapping[str, float]
    latency: Mapping[str, LatencyCheck]

    @property
    def best(self) -> Pick:
        """The structure with the lowest first objective."""
        return self.pareto[0]

    @property
    def verdict(self) -> str:
        """Whether the best is worth deploying, on held-out rows."""
        return self.best.judgement.verdict

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each structure trial: number, objectives, failure, and what was proposed."""
        import pandas

        rows = [{"trial": t.number, **t.values, "failure": t.failure, **t.params} for t in self.structures]
        return pandas.DataFrame(rows).set_index("trial")

    def to_dict(self) -> dict[str, Any]:
        return {
            "search": "architecture",
            "run": str(self.folder),
            "spec": str(self.best.folder / "spec.yaml"),
            "objectives": list(self.objectives),
            "pareto": [pick.to_dict() for pick in self.pareto],
            "trials": len(self.structures),
            "failed": sum(trial.failure is not None for trial in self.structures),
            "member_trials": len(self.members),
            "members_failed": sum(trial.failure is not None for trial in self.members),
            "complete": self.complete,
            "seconds": dict(self.seconds),
            "latency": {place: {**asdict(check), "error_s": check.error_s} for place, check in self.latency.items()},
            "verdict": self.verdict,
        }

    def tables(self) -> Sequence[Table]:
        """The Pareto set, the verdict on the best, and what to do next."""
        rows = [
            (
                str(place),
                pick.structure.topology,
                pick.structure.rule,
                ", ".join(pick.structure.members),
                *(objective_text(name, pick.values[name]) for name in self.objectives),
                f"{pick.judgement.tuned.log_loss:.4f}",
            )
            for place, pick in enumerate(self.pareto[:_SHOWN_PICKS])
        ]
        lines = [f"{len(self.structures)} structures and {len(self.members)} members tried"]
        if not self.complete:
            lines.append(f"the time was up; quorate tune --resume {self.folder} tries the rest")
        lines += [
            self.verdict,
            f"quorate deploy {self.best.folder / 'spec.yaml'}",
            f"{self.folder / 'report.html'} shows it all",
        ]
        columns = ("pick", "topology", "rule", "members", *self.objectives, "held-out log-loss")
        return [Table(columns, rows, lines=lines)]


def objective_text(objective: str, value: float) -> str:
    """A value with its unit."""
    if objective == "p95_latency_s":
        return f"{value * 1e3:.2f} ms"
    if objective == "memory_bytes":
        return f"{value / 2**20:.2f} MiB"
    return f"{value:.4g}"


def sweep(
    what: EnsembleSpec | SearchSpace,
    data: Splits,
    *,
    space: SearchSpace | None = None,
    folder: Path = Path("."),
    trials: int = 200,
    member_trials: int = 16,
    time_s: float | None = None,
    seed: int = 0,
    objectives: Sequence[Objective] = ("log_loss", "p95_latency_s"),
    sampler: SamplerName = "tpe",
    parallel: int = 8,
    workers: int | None = None,
    runs: Path | str = "runs",
    run_folder: Path | None = None,
    measured: Measured | None = None,
    check: int = 1,
    callbacks: Sequence[Any] = (),
    on_progress: Callable[[Progress], None] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> SweepResult:
    """Search members and structures on the Ray cluster this process is connected to, or on one of its own.

    Args:
        what: a space to search; or a spec, whose members are candidates beside those trained here.
        data: rows to train members on, to fit structures on, and to judge the outcome on. No given member may have been
            trained on the last two.
        space: with a spec, what else to search.
        folder: what the spec's paths start from.
        trials: structures to try.
        member_trials: members to train; 0 for none.
        time_s: stop after so long and make the best of it. What is found then depends on the machine's speed.
        seed: same seed, same members, same structures, on any number of workers; measured times are another matter,
            give ``measured`` to keep those too.
        objectives: all are made small; the first decides which structure is ``best``.
        sampler: tpe, nsga2 or random.
        parallel: trials proposed together, while those before them run: at least half the number of workers.
        workers: trials to run at once; as many as the cluster has room for when None. It changes no result.
        runs: where a folder of the run's own is made; on a cluster, storage that all nodes see.
        run_folder: the folder itself, which must be new or empty.
        measured: times of an earlier run (``load_measured(folder)``) instead of measuring.
        check: picks whose members are started, to see what the prediction of their latency is worth.
        callbacks: ``ray.tune.Callback`` objects, told of every trial of every phase. With mlflow installed (tried with
            3.17 on SQLite) ``ray.air.integrations.mlflow.MLflowLoggerCallback(tracking_uri="sqlite:///runs.db",
            experiment_name="digits")`` keeps each as a run; W&B's (tried with wandb 0.31, offline) is
            ``ray.air.integrations.wandb.WandbLoggerCallback(project="digits")``.
        on_progress: told what happens.
        origin: words to keep with the run, such as where the data came from.

    Raises:
        SweepError: nothing can be searched, nothing worked, the folder is taken, or the disk is full.
        DataError: too few rows, or not one input where members are trained.
        TuningError: a given member whose predictions cannot be used.
    """
    spec = what if isinstance(what, EnsembleSpec) else None
    chosen = space or (what if isinstance(what, SearchSpace) else SearchSpace(name=what.name))
    if workers is not None and workers < 1:
        raise SweepError("workers", f"{workers}", "give at least 1, or None for as many as there is room for")
    settings = _settings(
        space=chosen, trials=trials, member_trials=member_trials if chosen.families else 0,
        objectives=tuple(objectives), sampler=sampler, seed=seed, parallel=parallel, origin=dict(origin or {}),
    )  # fmt: skip
    where = new_run_folder(runs, spec.name if spec else chosen.name) if run_folder is None else run_folder
    where.mkdir(parents=True, exist_ok=True)
    with saving(where), holding(where):
        if (where / _SETTINGS).exists():
            raise SweepError(
                str(where), "it holds a sweep already", f"quorate tune --resume {where}, or another folder"
            )
        rows = _rows(settings, data)
        if spec is not None:
            _keep_given(spec, folder, where)
        words = {"settings": settings.model_dump(mode="json"), "data": _digests(rows)}
        write_whole(where / _SETTINGS, json.dumps(words, indent=1).encode())
        return _run(
            where, settings, rows, How(time_s, workers, tuple(callbacks), on_progress or _silent, check), measured
        )


def _settings(**words: Any) -> Settings:
    try:
        return Settings(**words)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SweepError(".".join(map(str, first["loc"])), f"{first['input']!r}", first["msg"].lower()) from None


def resume_sweep(
    run_folder: Path,
    data: Splits,
    *,
    time_s: float | None = None,
    workers: int | None = None,
    callbacks: Sequence[Any] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """Take up a sweep that was killed, interrupted or out of time. No finished trial runs again.

    Args:
        run_folder: of the sweep.
        data: the same rows.
        time_s, workers, callbacks, on_progress: as of ``sweep``.

    Raises:
        SweepError: no sweep lies there, or another process runs it.
        DataError: other rows.
    """
    settings, digests = read_settings(run_folder)
    with saving(run_folder), holding(run_folder):
        rows = _rows(settings, data)
        for split, digest in _digests(rows).items():
            if digests.get(split) != digest:
                fix = "give the rows that the sweep began with"
                raise DataError(f"{split} rows", "they differ from those of the sweep", fix)
        return _run(run_folder, settings, rows, How(time_s, workers, tuple(callbacks), on_progress or _silent), None)


def read_settings(run_folder: Path) -> tuple[Settings, dict[str, str]]:
    """Settings of a sweep and the digests of its rows.

    Raises:
        SweepError: no sweep lies there.
    """
    try:
        words = json.loads((run_folder / _SETTINGS).read_bytes())
        return Settings(**words["settings"]), dict(words["data"])
    except OSError:
        raise SweepError(str(run_folder), f"it has no {_SETTINGS}", "give the folder of a sweep") from None
    except (ValueError, KeyError, TypeError) as error:
        found = f"{_SETTINGS} is damaged ({type(error).__name__})"
        raise SweepError(str(run_folder), found, "start the sweep anew") from None


def _silent(progress: Progress) -> None:
    pass


def _run(
    folder: Path, settings: Settings, rows: Mapping[str, Labelled], how: How, measured: Measured | None
) -> SweepResult:
    from quorate.tuning.search.sweep_run import SweepRun

    return SweepRun(folder, settings, rows, how).run(measured or Measured())


def _rows(settings: Settings, data: Splits) -> dict[str, Labelled]:
    """The four parts of the data: a part of the training rows tells members when to stop."""
    for name, part in (("training", data.train), ("validation", data.validation), ("test", data.test)):
        check_labelled(name, part)
    for name, part in (("validation", data.validation), ("test", data.test)):
        if len(part) < 10:
            raise DataError(f"{name} rows", f"{len(part)}", "give at least 10; hundreds for structures worth having")
    rows = {"validation": data.validation, "held-out": data.test}
    if not settings.member_trials:
        return rows
    if len(data.train) < 2 * _STOPPING_SHARE:
        fix = f"give at least {2 * _STOPPING_SHARE}, or member_trials=0"
        raise DataError("training rows", f"{len(data.train)}", fix)
    if len(data.train.inputs) != 1:
        found = f"inputs {', '.join(data.train.inputs)}"
        raise DataError("training rows", found, "members trained here read one input; give member_trials=0")
    order = np.random.default_rng(settings.seed).permutation(len(data.train))
    cut = len(order) // _STOPPING_SHARE
    train, stopping = data.train.rows(np.sort(order[cut:])), data.train.rows(np.sort(order[:cut]))
    return {"train": train, "stopping": stopping, **rows}


def _digests(rows: Mapping[str, Labelled]) -> dict[str, str]:
    return {name: part.digest() for name, part in rows.items()}


def _keep_given(spec: EnsembleSpec, source: Path, folder: Path) -> None:
    """Copy the given spec and all it names below the run's folder, with paths that start from there."""
    from quorate.tuning.runs.given import keep_given

    keep_given(spec, source, folder)
