"""Search the architecture of an ensemble: train members, try structures on what they predict, write specs.

Entry points::

    result = sweep(SearchSpace(name="digits"), digits(), member_trials=16, trials=200, runs=Path("runs"))
    result.best.spec, result.pareto, result.to_pandas(), result.verdict
    resume_sweep(result.folder, digits())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.data.labelled import Labelled, Splits, check_labelled
from quorate.tuning.errors import DataError
from quorate.tuning.latency.curves import Measured
from quorate.tuning.runs.input_spec import save_input_spec
from quorate.tuning.runs.run_folder import new_run_folder
from quorate.tuning.search.budget import Budget
from quorate.tuning.search.journal import holding, saving
from quorate.tuning.search.result import SweepResult
from quorate.tuning.search.settings import (
    Progress,
    RunOptions,
    Settings,
    check_unused,
    make_settings,
    read_settings,
    save_settings,
)
from quorate.tuning.search.space import Objective, SamplerName, SearchSpace

# Members stop on rows of their own, so that the validation rows judge them as they judge everybody else.
_STOPPING_SHARE, _MOST_STOPPING = 8, 2000


def sweep(
    what: EnsembleSpec | SearchSpace, data: Splits, *,
    space: SearchSpace | None = None, folder: Path = Path("."),
    trials: int = 200, member_trials: int = 16, time_s: float | Budget | None = None, seed: int = 0,
    objectives: Sequence[Objective] = ("log_loss", "p95_latency_s"), sampler: SamplerName = "tpe",
    parallel: int = 8, workers: int | None = None,
    runs: Path | str = "runs", run_folder: Path | None = None,
    measured: Measured | None = None, check: int = 1, callbacks: Sequence[Any] = (),
    on_progress: Callable[[Progress], None] | None = None, origin: Mapping[str, Any] | None = None,
) -> SweepResult:  # fmt: skip
    """Search members and structures on the Ray cluster this process is connected to, or on one of its own.

    Args:
        what: a space to search; or a spec, whose members are candidates beside those trained here.
        data: rows to train members on, to fit structures on, and to judge the outcome on. No given member may have been
            trained on the last two.
        space: with a spec, what else to search.
        folder: what the spec's paths start from.
        trials, member_trials: structures to try, members to train; 0 members for none. With ``time_s`` in each round.
        time_s: use so long: rounds of members and structures while there is time for one more. What is found then
            depends on the machine's speed. A ``Budget`` counts from when it was made.
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
        callbacks: told of every trial of every phase, see ``search.callbacks``.
        on_progress: told what happens.
        origin: what to keep with the run, such as where the data came from.

    Raises:
        SweepError: nothing can be searched, nothing worked, the folder is taken, or the disk is full.
        DataError: too few rows, or not one input where members are trained.
        TuningError: a given member whose predictions cannot be used.
    """
    spec = what if isinstance(what, EnsembleSpec) else None
    chosen = space or (what if isinstance(what, SearchSpace) else SearchSpace(name=what.name))
    options = RunOptions(_budget(time_s), workers, tuple(callbacks), on_progress, check)
    settings = make_settings(
        space=chosen, trials=trials, member_trials=member_trials if chosen.families else 0,
        objectives=tuple(objectives), sampler=sampler, seed=seed, parallel=parallel, origin=dict(origin or {}),
    )  # fmt: skip
    where = new_run_folder(runs, spec.name if spec else chosen.name) if run_folder is None else run_folder
    where.mkdir(parents=True, exist_ok=True)
    with saving(where), holding(where):
        rows = _rows(settings, data)
        check_unused(where)
        save_input_spec(spec, folder, where)
        save_settings(where, settings, _digests(rows))  # last: a sweep that can be taken up has its spec
        return _run(where, settings, rows, options, measured)


def resume_sweep(
    run_folder: Path,
    data: Splits,
    *,
    time_s: float | Budget | None = None,
    workers: int | None = None,
    callbacks: Sequence[Any] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """Continue a sweep that was killed, interrupted or out of time. No finished trial runs again.

    Args:
        run_folder: of the sweep.
        data: the same rows.
        time_s, workers, callbacks, on_progress: as of ``sweep``.

    Raises:
        SweepError: the folder holds no sweep, or another process runs it.
        DataError: other rows.
    """
    settings, digests = read_settings(run_folder)
    options = RunOptions(_budget(time_s), workers, tuple(callbacks), on_progress)
    with saving(run_folder), holding(run_folder):
        rows = _rows(settings, data)
        for split, digest in _digests(rows).items():
            if digests.get(split) != digest:
                fix = "give the rows that the sweep began with"
                raise DataError(f"{split} rows", "they differ from those of the sweep", fix)
        return _run(run_folder, settings, rows, options, None)


def _run(
    folder: Path, settings: Settings, rows: Mapping[str, Labelled], options: RunOptions, measured: Measured | None
) -> SweepResult:
    from quorate.tuning.search.phases import SweepRun  # imports Ray, torch and Optuna

    return SweepRun(folder, settings, rows, options).run(measured or Measured())


def _budget(time_s: float | Budget | None) -> Budget:
    return time_s if isinstance(time_s, Budget) else Budget(time_s)


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
    uneven = [name for name, array in data.train.inputs.items() if array.ndim != 2 or array.dtype.kind not in "fiub"]
    if len(data.train.inputs) != 1 and uneven:
        fix = "members trained here read one input, or flat rows of numbers; give member_trials=0"
        raise DataError("training rows", f"inputs {', '.join(data.train.inputs)}", fix)
    order = np.random.default_rng(settings.seed).permutation(len(data.train))
    cut = min(len(order) // _STOPPING_SHARE, _MOST_STOPPING)
    train, stopping = data.train.rows(np.sort(order[cut:])), data.train.rows(np.sort(order[:cut]))
    return {"train": train, "stopping": stopping, **rows}


def _digests(rows: Mapping[str, Labelled]) -> dict[str, str]:
    return {name: part.digest() for name, part in rows.items()}
