"""Train a spec's graph: feature fusions, heads and learned rules, or all of it; judged like any other alternative.

Entry point::

    result = train_composite(load_spec("digits.yaml"), Path("."), TrainingRows(train, solve, judge), runs=Path("runs"))
    result.tuned.choice.verdict, result.folder
"""

# N rows, C classes

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.display import Displayed, Table
from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.learned.base import LearnedRule
from quorate.tuning.composite.columns import columns_of, labelled_columns
from quorate.tuning.composite.composite_job import CompositeJob, network_of
from quorate.tuning.composite.composite_run import CompositeRun
from quorate.tuning.composite.learned_rule import fit_rule, fold_folder, out_of_fold_outputs
from quorate.tuning.composite.loss import Objective, Task, task_of
from quorate.tuning.composite.network import as_read
from quorate.tuning.composite.run_job import run_job
from quorate.tuning.composite.run_on_workers import run_on_workers
from quorate.tuning.composite.trained_part import HEADS, TrainedPart, trained_part
from quorate.tuning.composite.trained_spec import write_trained
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import DataError, TuningError
from quorate.tuning.evaluation.metrics.row_metrics import Metric
from quorate.tuning.ray_session import ray_session
from quorate.tuning.runs.run_folder import SPEC, new_run_folder
from quorate.tuning.training.epochs import Epoch, Training
from quorate.tuning.workflows.before import Before, Contest
from quorate.tuning.workflows.tune_fusion import tune_fusion
from quorate.tuning.workflows.tune_result import TuneResult

Inputs = Mapping[str, NDArray[Any]]
CHECKPOINTS, TRAINED = "training", "trained"
# Of rows without labels, where there are no others: to stop on.
_STOP_SHARE = 10


@dataclass(frozen=True)
class TrainingRows:
    """What is trained on and judged by.

    Attributes:
        train: labelled rows to train on; None where a teacher is all there is to learn from.
        solve, judge: other labelled rows: training stops by the first, which solve weights too; the second judge. None
            without labels: nothing is judged then.
        unlabelled: request inputs of rows without labels.
    """

    train: Labelled | None
    solve: Labelled | None = None
    judge: Labelled | None = None
    unlabelled: Inputs | None = None


@dataclass(frozen=True, repr=False)
class TrainResult(Displayed):
    """What training gave.

    Attributes:
        spec: the recommended ensemble, deployable from ``folder``; the trained one where there were no labels to judge.
        folder: the run's.
        trained: members and fusions that were trained.
        history: the epochs; none where only a learned rule was fitted.
        best: the number of the epoch that was kept.
        tuned: the verdict, with ``trained`` and ``incumbent`` among its alternatives; None where nothing was judged.
    """

    spec: EnsembleSpec
    folder: Path
    trained: tuple[str, ...]
    history: tuple[Epoch, ...]
    best: int
    tuned: TuneResult | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        last = [one for one in self.history if one.number == self.best]
        found = {
            "trained": list(self.trained),
            "epochs": len(self.history),
            "best_epoch": self.best,
            "validation_log_loss": last[0].validation_log_loss if last else None,
        }
        return {**found, **(self.tuned.to_dict() if self.tuned else {"ensemble": self.spec.name})}

    def tables(self) -> Sequence[Table]:
        """The training in a line, then every alternative on held-out rows."""
        said = f"trained {', '.join(self.trained)}"
        if self.history:
            kept = self.history[self.best - 1]
            said += f": {len(self.history)} epochs, kept {kept.number} at {kept.validation_log_loss:.4f}"
        if self.tuned is None:
            said += "; no labelled rows, nothing was judged"
            return [Table(lines=[said, f"quorate deploy {self.folder / SPEC}"])]
        return [Table(lines=[said]), *self.tuned.tables()]


def train_composite(
    spec: EnsembleSpec, folder: Path, rows: TrainingRows, *,
    what: str | Sequence[str] = HEADS, teacher: tuple[EnsembleSpec, Path] | None = None,
    training: Training | None = None, objective: Objective | None = None, folds: int = 5, workers: int | None = None,
    metric: Metric | None = None, min_gain: float = 0.0, runs: Path | str = "runs",
    resume: Path | None = None, on_step: Callable[[str], None] | None = None,
) -> TrainResult:  # fmt: skip
    """Train, write the spec that comes out, and judge it beside the ensemble as it was and all its alternatives.

    Args:
        spec: the ensemble. Feature fusions and heads need no state and no weights yet; members with weights start from
            them, and are trained at a tenth of the learning rate.
        folder: what its paths start from.
        rows: to train on and to judge by.
        what: as of ``trained_part``.
        teacher: an ensemble whose answers are learned too, on labelled rows and on rows without labels.
        training, objective: epochs, rates, seed; what counts for how much.
        folds: of the rows, for a learned rule over members that are trained.
        workers: processes of Ray Train on the cluster that this process is connected to; this process when None.
        metric, min_gain: as of ``tune_fusion``.
        runs: where the run's folder is made.
        resume: the folder of a run that was cut off, to be taken up with what it was begun with.
        on_step: told what happens next.

    Raises:
        TuningError, DataError: nothing can be trained, or what is trained is no network; rows do not fit.
    """
    say, how = on_step or (lambda step: None), training or Training()
    if spec.of_tokens:
        raise TuningError("task", str(spec.task), "train taggers by themselves: a composite's rows are no tokens")
    part = trained_part(spec, what, lambda name: is_network(spec, name, folder))
    _check_left_as_they_are(spec, part, folder)
    where = _where(resume, runs, spec.name)
    say("running what is not trained")
    job = _job(spec, folder, part, rows, teacher, how, objective or Objective())

    def train(one: CompositeJob, title: str) -> CompositeRun:
        place = fold_folder(where / CHECKPOINTS, title)
        if workers is not None:
            say(f"training {title} on {workers} workers")
            return run_on_workers(one, place, workers)
        return run_job(one, place, lambda epoch: say(_progress(title, epoch, how)))

    with contextlib.nullcontext() if workers is None else ray_session():
        run = train(job, "the composite") if part.trained else None
        rule = _rule(job, rows, folds, train, run) if part.rule else None
    with tempfile.TemporaryDirectory(prefix="quorate-trained-") as place:
        written = write_trained(spec, folder, run, rule, Path(place) if rows.judge is not None else where)
        tuned = None
        if rows.solve is not None and rows.judge is not None:
            before = Before(spec, folder) if _answers(spec, folder, rows.judge) else None
            tuned = tune_fusion(
                written, Path(place), rows.solve, rows.judge, metric, min_gain=min_gain, seed=how.seed, on_step=on_step,
                contest=Contest(where, TRAINED, before),
            )  # fmt: skip
    shutil.rmtree(where / CHECKPOINTS, ignore_errors=True)  # what it would be taken up from
    history = () if run is None else tuple(run.history)
    best = run.best.number if run is not None and run.best is not None else 0
    named = (*part.trained, *([spec.output_name] if part.rule else []))
    return TrainResult(tuned.spec if tuned else written, where, named, history, best, tuned)


def _where(resume: Path | None, runs: Path | str, name: str) -> Path:
    if resume is None:
        return new_run_folder(runs, name)
    if not (resume / CHECKPOINTS).is_dir():
        raise TuningError("resume", f"{resume} holds no training that was cut off", "give the folder of one")
    return resume


def is_network(spec: EnsembleSpec, name: str, folder: Path) -> bool:
    """Whether a member's factory makes a network that can be trained."""
    try:
        network_of(spec, name, folder, trained=True)
    except TuningError:
        return False
    return True


def _check_left_as_they_are(spec: EnsembleSpec, part: TrainedPart, folder: Path) -> None:
    """Refuse members that are not trained and start at random: what is learned of one is worth nothing for the next."""
    for name in (*part.outside, *part.inside):
        if name in part.trained or name not in spec.members or spec.members[name].weights is not None:
            continue
        first, second = (load_model(name, spec.members[name], folder).module for _ in range(2))
        if first is None or second is None:
            continue
        others = second.state_dict()
        if any(not torch.equal(value, others[key]) for key, value in first.state_dict().items()):
            found = "it has no weights, and each load makes another network"
            raise TuningError(f"members.{name}", found, "train it too (what=all), or give its weights")


def _job(
    spec: EnsembleSpec, folder: Path, part: TrainedPart, rows: TrainingRows, teacher: tuple[EnsembleSpec, Path] | None,
    training: Training, objective: Objective,
) -> CompositeJob:  # fmt: skip
    """The training, with all that is run once before it."""
    if rows.train is None and (rows.unlabelled is None or teacher is None):
        raise DataError("rows", "none with labels", "give labelled rows, or rows without labels and a teacher")
    others = None if rows.unlabelled is None else columns_of(spec, folder, part, rows.unlabelled)
    if others is not None and teacher is not None and rows.unlabelled is not None:
        others = others.taught(_said(teacher, rows.unlabelled, spec))
    task: Task = "values" if spec.classes is None else "classes"
    labelled = rows.train or rows.solve
    if labelled is not None:
        task = task_of(labelled)
    if part.rule and (rows.train is None or task != "classes"):
        raise TuningError("fusion.rule", "a learned rule without labelled rows of classes", "name what else is trained")
    if rows.train is not None:
        seen = labelled_columns(spec, folder, part, rows.train)
        if teacher is not None:
            seen = seen.taught(_said(teacher, rows.train.inputs, spec))
        stop = seen if rows.solve is None else labelled_columns(spec, folder, part, rows.solve)
        return CompositeJob(spec, folder, part, task, seen, stop, others, training, objective)
    assert others is not None
    if rows.solve is not None:
        stop = labelled_columns(spec, folder, part, rows.solve)
        return CompositeJob(spec, folder, part, task, others, stop, None, training, objective)
    numbers = torch.arange(len(others))
    kept = numbers % _STOP_SHARE != 0
    seen, stop = others.rows(numbers[kept]), others.rows(numbers[~kept])
    return CompositeJob(spec, folder, part, task, seen, stop, None, training, objective)


def _said(teacher: tuple[EnsembleSpec, Path], inputs: Inputs, spec: EnsembleSpec) -> torch.Tensor:
    """(N, C) a teacher's answers, its classes in the ensemble's order."""
    taught, folder = teacher
    node = OfflineGraph(taught, folder, inputs).node(taught.output_name)
    if not node.present.all():
        found = f"it answers {int(node.present.sum())} of {len(node.present)} rows"
        raise DataError("teacher", found, "leave out the rows that it cannot answer")
    if sorted(taught.classes or ()) != sorted(spec.classes or ()):
        raise TuningError("teacher", "its classes are others", "give a teacher of the ensemble's classes")
    columns = [(taught.classes or ()).index(name) for name in spec.classes or ()]
    said = node.aligned[:, columns] if columns else node.aligned.reshape(len(node.aligned), -1)
    return torch.from_numpy(np.ascontiguousarray(said))


def _rule(
    job: CompositeJob, rows: TrainingRows, folds: int, train: Callable[[CompositeJob, str], CompositeRun],
    run: CompositeRun | None,
) -> LearnedRule:  # fmt: skip
    """The answer's rule: out of fold over members that are trained, else on what members say of the training rows."""
    assert rows.train is not None
    if run is None:
        members = ((name, job.spec.members[name]) for name in job.spec.output_fusion.members)
        seen = job.rows
        outputs = [(as_read(one, job.spec.classes, seen.values[name]), seen.there[name]) for name, one in members]
    else:
        outputs = out_of_fold_outputs(job, rows.train, folds, train)
    return fit_rule(job.spec.output_fusion, outputs, rows.train, job.objective.member_dropout, job.training.seed)


def _answers(spec: EnsembleSpec, folder: Path, rows: Labelled) -> bool:
    """Whether the ensemble can answer as it is, no state is missing, and answers are compared: lists are not yet."""
    if spec.inferred_task == "ranking":
        return False
    try:
        OfflineGraph(spec, folder, rows.rows(slice(0, 2)).inputs).node(spec.output_name)
    except (SpecError, MemberLoadError):
        return False
    return True


def _progress(title: str, epoch: Epoch, training: Training) -> str:
    of = f"{epoch.number} of {training.epochs}"
    return f"training {title}: epoch {of}, log-loss {epoch.validation_log_loss:.4f}"
