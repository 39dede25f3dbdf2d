"""Search members and structures: labelled rows in, a run folder of deployable specs out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from quorate.cluster.arguments.by_output import of_the_only
from quorate.cluster.arguments.labelled_rows import halves, read_rows
from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, one_output, spec_and_folder
from quorate.cluster.jobs.through_jobs import through_jobs
from quorate.cluster.local.connection import connected_if_named
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.extras import require
from quorate.tuning.errors import SweepError

if TYPE_CHECKING:
    from quorate.cluster.jobs.job_run import JobRun
    from quorate.deployments.rows.column_names import ColumnNames
    from quorate.deployments.rows.opening import RowsLike
    from quorate.tuning.data.labelled import Labelled, Splits
    from quorate.tuning.search.result import SweepResult
    from quorate.tuning.search.settings import Progress
    from quorate.tuning.search.space import Objective, SearchSpace

    SweepRows = RowsLike | Labelled | Splits


@overload
def sweep(
    spec: SpecLike | None, data: SweepRows, *, folder: str | Path | None = ..., space: SearchSpace | None = ...,
    trials: int = ..., member_trials: int = ..., epochs: int = ..., objectives: Sequence[Objective] = ...,
    time_s: float | None = ..., workers: int | None = ..., label: str = ..., columns: ColumnNames | None = ...,
    runs: str | Path = ..., seed: int = ..., address: None = ..., callbacks: Sequence[Any] = ...,
    on_progress: Callable[[Progress], None] | None = ...,
) -> SweepResult: ...  # fmt: skip


@overload
def sweep(spec: SpecLike | None, data: SweepRows, *, address: str, **asked: Any) -> SweepResult | JobRun: ...


@naming_spec_lines
@through_jobs
def sweep(
    spec: SpecLike | None, data: SweepRows, *, folder: str | Path | None = None, space: SearchSpace | None = None,
    trials: int = 200, member_trials: int = 16, epochs: int = 30,
    objectives: Sequence[Objective] = ("log_loss", "p95_latency_s"), time_s: float | None = None,
    workers: int | None = None, label: str = "label", columns: ColumnNames | None = None,
    runs: str | Path = "runs", seed: int = 0, address: str | None = None, callbacks: Sequence[Any] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:  # fmt: skip
    """Search members and structures for the ensemble that a spec describes, or for rows alone.

    Three quarters of the rows train members, an eighth is for structures, an eighth judges; where nothing is trained,
    halves.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds; its members are candidates beside those trained,
            and networks among them are trained on from their weights before anything else. None for the inputs and
            classes that the rows have.
        data: a table, a folder of IDX files, or rows in memory, divided already or not.
        folder: what the spec's paths start from; that of the file, or the current one, when None.
        space: what else to search; what a member's training is made of where None.
        trials: structures to try.
        member_trials: members to train; 0 for none.
        epochs: of a member that is not stopped early; of the space when one is given.
        objectives: all are made small; the first decides which structure is the best.
        time_s: use so long, from this call to its end: rounds of ``member_trials`` and ``trials`` while there is time
            for one more.
        workers: trials at once; as many as fit when None.
        label: the table's column that holds the class.
        columns: of the spec's inputs that the table calls otherwise: ``{"price": "Price"}``.
        runs: where the run's folder is made.
        seed: of all that is drawn.
        address: a Ray cluster to search on; one of its own, or the one that this process is on, when None. Of a Jobs
            address the driver is there, too, and what is returned is a ``JobRun``.
        callbacks: ``ray.tune.Callback`` objects, told of every trial.
        on_progress: told what happens.

    Raises:
        SweepError: nothing can be searched, or nothing worked.
        DataError: the rows cannot be read or do not fit the spec.
    """
    require("tune", "sweep")
    from quorate.tuning.search import sweep as search
    from quorate.tuning.search.budget import Budget
    from quorate.tuning.search.space import SearchSpace

    budget = Budget(time_s)
    found, place = (None, Path()) if spec is None else spec_and_folder(spec, folder)
    if found is not None:
        one_output(found)
    rows = _Rows(found, data, of_the_only("label", label), seed, member_trials, dict(columns or {}))
    what = space or (SearchSpace(epochs=epochs) if found is None else SearchSpace(name=found.name, epochs=epochs))
    with connected_if_named(address):
        return search.sweep(
            found or what, rows.split(), space=what, folder=place,
            trials=trials, member_trials=member_trials, time_s=budget, seed=seed, objectives=objectives,
            workers=workers, runs=runs, callbacks=callbacks, on_progress=on_progress, origin=rows.origin(spec),
        )  # fmt: skip


@overload
def resume(
    run: str | Path, data: SweepRows | None = ..., *, time_s: float | None = ..., workers: int | None = ...,
    address: None = ..., callbacks: Sequence[Any] = ..., on_progress: Callable[[Progress], None] | None = ...,
) -> SweepResult: ...  # fmt: skip


@overload
def resume(
    run: str | Path, data: SweepRows | None = ..., *, address: str, **asked: Any
) -> SweepResult | JobRun: ...  # fmt: skip


@through_jobs
def resume(
    run: str | Path,
    data: SweepRows | None = None,
    *,
    time_s: float | None = None,
    workers: int | None = None,
    address: str | None = None,
    callbacks: Sequence[Any] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """Take up a sweep that was cut off or out of time; no finished trial runs again.

    Args:
        run: the sweep's folder.
        data: the rows it began with, where these were in memory; files are found again.
        time_s, workers, address, callbacks, on_progress: as of ``sweep``.

    Raises:
        SweepError: there is none, another process runs it, or only Python had its rows.
        DataError: the rows are not what they were.
    """
    require("tune", "resume")
    from quorate.tuning.data.labelled import Splits
    from quorate.tuning.runs.input_spec import read_input_spec
    from quorate.tuning.search.budget import Budget
    from quorate.tuning.search.settings import read_settings
    from quorate.tuning.search.sweep import resume_sweep

    budget = Budget(time_s)
    folder = Path(run)
    settings, _ = read_settings(folder)
    origin = settings.origin
    if isinstance(data, Splits):
        splits = data
    elif "spec" in origin and (data is not None or "data" in origin):
        spec = read_input_spec(folder) if origin["spec"] else None
        given = origin["data"] if data is None else data
        splits = _Rows(
            spec, given, origin["label"], settings.seed, settings.member_trials, origin.get("columns", {})
        ).split()
    else:
        fix = "give resume its rows, divided as they were"
        raise SweepError(str(folder), "it was started with rows or a spec that only Python has", fix)
    with connected_if_named(address):
        return resume_sweep(
            folder, splits, time_s=budget, workers=workers, callbacks=callbacks, on_progress=on_progress
        )


@dataclass(frozen=True)
class _Rows:
    """Where the rows come from, the same when a sweep is taken up again."""

    spec: EnsembleSpec | None
    data: SweepRows
    label: str
    seed: int
    member_trials: int
    columns: Mapping[str, str | Sequence[str]]

    def origin(self, spec: SpecLike | None) -> dict[str, Any]:
        """What a run keeps, to find its rows again: only of files; no path where there is no spec."""
        origin: dict[str, Any] = {"label": self.label}
        if self.columns:
            origin["columns"] = dict(self.columns)
        if spec is None or isinstance(spec, str | Path):
            origin["spec"] = str(Path(spec).resolve()) if spec else ""
        if isinstance(self.data, str | Path):
            origin["data"] = str(Path(self.data).resolve())
        return origin

    def split(self) -> Splits:
        """Three quarters train, an eighth is fitted on, an eighth judges; halves of all where nothing is trained.

        Of MNIST's files the training file trains, the test file does the rest: given members may have seen the former.
        """
        from quorate.tuning.data.idx_files import idx_images, is_idx_folder
        from quorate.tuning.data.labelled import Splits

        if isinstance(self.data, Splits):
            return self.data
        if is_idx_folder(self.data) and not self.columns:
            splits = idx_images(Path(str(self.data)), seed=self.seed)
            return Splits(splits.train, *halves(splits.test, self.seed))
        rows = self._read(self.data)
        if not self.member_trials:
            return Splits(rows.rows(slice(0, 0)), *halves(rows, self.seed))
        numbered = replace(rows, inputs={"row": np.arange(len(rows))})
        _, half = halves(numbered, self.seed)
        _, quarter = halves(half, self.seed + 1)
        fit, judge = (np.sort(part.inputs["row"]) for part in halves(quarter, self.seed + 2))
        train = np.setdiff1d(np.arange(len(rows)), np.concatenate([fit, judge]))
        return Splits(rows.rows(train), rows.rows(fit), rows.rows(judge))

    def _read(self, data: Any) -> Labelled:
        from quorate.tuning.data.labelled import Labelled
        from quorate.tuning.data.whole_table import read_whole_table

        if self.spec is None:
            if self.columns:
                raise SweepError("columns", "no spec has inputs to be read from them", "leave them out")
            return data if isinstance(data, Labelled) else read_whole_table(data, self.label)
        return read_rows(self.spec, data, self.label, columns=self.columns)
