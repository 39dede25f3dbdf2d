"""The parts of an ensemble that learn from each other, trained: labelled rows in, a run folder with a verdict out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from quorate.cluster.arguments.by_output import by_output, of_the_only
from quorate.cluster.arguments.input_rows import wanted_of
from quorate.cluster.arguments.labelled_rows import (
    LABEL,
    halves,
    of_one_output,
    read_output_rows,
    read_rows,
    read_training_rows,
)
from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.cluster.jobs.through_jobs import through_jobs
from quorate.cluster.local.connection import connected_if_named
from quorate.deployments.rows.opening import RowsLike
from quorate.deployments.rows.reading import read_inputs
from quorate.fusion.extras import require
from quorate.tuning.errors import TuningError

if TYPE_CHECKING:
    from quorate.cluster.arguments.labelled_rows import Rows
    from quorate.cluster.jobs.job_run import JobRun
    from quorate.deployments.rows.column_names import ColumnNames
    from quorate.deployments.spec.ensemble import EnsembleSpec
    from quorate.tuning.data.labelled import Labelled
    from quorate.tuning.data.labelled_outputs import LabelledOutputs
    from quorate.tuning.evaluation.metrics.row_metrics import Metric
    from quorate.tuning.predictions.run_member import Inputs
    from quorate.tuning.workflows.outputs.train_outputs import OutputsTraining
    from quorate.tuning.workflows.train_composite import TrainingRows, TrainResult

    Metrics = Metric | Mapping[str, Metric]
    Numbers = float | Mapping[str, float]


@overload
def train(
    spec: SpecLike, data: Rows | None = ..., *, train: Rows | None = ..., unlabelled: RowsLike | None = ...,
    teacher: SpecLike | None = ..., what: str | Sequence[str] = ..., epochs: int = ..., batch_size: int = ...,
    learning_rate: float = ..., weight_decay: float = ..., patience: int = ..., auxiliary: float = ...,
    member_dropout: float = ..., consistency: float = ..., temperature: float = ..., label_share: float = ...,
    folds: int = ..., workers: int | None = ..., metric: Metric | None = ..., min_gain: float = ...,
    folder: str | Path | None = ..., label: str = ..., groups: str | None = ..., columns: ColumnNames | None = ...,
    runs: str | Path = ..., seed: int = ..., address: None = ..., resume: str | Path | None = ...,
    on_step: Callable[[str], None] | None = ...,
) -> TrainResult: ...  # fmt: skip


@overload
def train(
    spec: SpecLike, data: Rows | LabelledOutputs | None = ..., *, label: Mapping[str, str],
    train: Rows | LabelledOutputs | None = ..., unlabelled: RowsLike | None = ..., teacher: SpecLike | None = ...,
    what: str | Sequence[str] = ..., epochs: int = ..., batch_size: int = ..., learning_rate: float = ...,
    weight_decay: float = ..., patience: int = ..., auxiliary: float = ..., member_dropout: float = ...,
    consistency: float = ..., temperature: float = ..., label_share: float = ..., folds: int = ...,
    workers: int | None = ..., metric: Metrics | None = ..., min_gain: Numbers = ..., folder: str | Path | None = ...,
    groups: str | None = ..., columns: ColumnNames | None = ..., runs: str | Path = ..., seed: int = ...,
    address: None = ..., on_step: Callable[[str], None] | None = ...,
) -> OutputsTraining: ...  # fmt: skip


@overload
def train(
    spec: SpecLike, data: Rows | LabelledOutputs | None = ..., *, address: str, **asked: Any
) -> TrainResult | OutputsTraining | JobRun: ...  # fmt: skip


@naming_spec_lines
@through_jobs
def train(
    spec: SpecLike, data: Rows | LabelledOutputs | None = None, *, train: Rows | LabelledOutputs | None = None,
    unlabelled: RowsLike | None = None, teacher: SpecLike | None = None, what: str | Sequence[str] = "heads",
    epochs: int = 30, batch_size: int = 64, learning_rate: float = 1e-3, weight_decay: float = 1e-2, patience: int = 10,
    auxiliary: float = 0.3, member_dropout: float = 0.2, consistency: float = 1.0, temperature: float = 2.0,
    label_share: float = 0.3, folds: int = 5, workers: int | None = None, metric: Metrics | None = None,
    min_gain: Numbers = 0.0, folder: str | Path | None = None, label: str | Mapping[str, str] = LABEL,
    groups: str | None = None, columns: ColumnNames | None = None, runs: str | Path = "runs", seed: int = 0,
    address: str | None = None, resume: str | Path | None = None, on_step: Callable[[str], None] | None = None,
) -> TrainResult | OutputsTraining:  # fmt: skip
    """Train feature fusions, heads and a learned rule on frozen members, or the whole graph end to end.

    Half of the rows train, a quarter decides when to stop and solves weights, a quarter judges what comes out beside
    the ensemble as it was and all that ``tune`` would try. Of several outputs each has what no other reads trained by
    its own labels; ``metric`` and ``min_gain`` are of all of them or, as mappings, of those that they name.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds. What is trained needs no weights or state yet.
        data: a table, a folder of IDX files, or ``Labelled`` rows; None to learn from a teacher alone.
        train: rows to train on; then all of ``data`` stops, solves and judges.
        unlabelled: rows without labels, a file or arrays by request input: answers are to stay the same when members
            are left out, and to be like the teacher's.
        teacher: an ensemble whose answers are learned too.
        what: ``heads`` (feature fusions, members that read other members, learned rules), ``all``, or names.
        epochs, batch_size, learning_rate, weight_decay, patience: of AdamW with one cosine; training stops after
            ``patience`` epochs without a lower loss, and the best epoch is kept. Members with weights learn at a tenth
            of the rate.
        auxiliary: what the branches' own losses count, beside that of the fused answer.
        member_dropout: chance that a modality, or a member where there is one modality, is left out of a row.
        consistency: what the divergence of answers with members left out counts, on rows without labels.
        temperature, label_share: of learning from a teacher, as in ``compress``.
        folds: of the rows, where a learned rule reads members that are trained.
        workers: processes on a Ray cluster that share each batch; this process when None.
        metric, min_gain: by what alternatives are compared, and the least gain that is worth more members.
        folder, runs, seed: what the spec's paths start from (its file's); where the run is made; of all that is drawn.
        label, groups, columns: of the class (as of ``tune``); by which rows belong together; of inputs that are called
            otherwise there.
        address: a Ray cluster for the workers (this process's, or one of its own, when None). Of a Jobs address it all
            runs there, and what is returned is a ``JobRun``.
        resume, on_step: folder of a run that was cut off, everything else as it was; told what happens next.

    Raises:
        TuningError: nothing can be trained, or what is trained is no network.
        DataError: rows cannot be read or do not fit the spec.
    """
    require("tune", "train")
    from quorate.tuning.composite.loss import Objective
    from quorate.tuning.training.epochs import Training

    found, place = spec_and_folder(spec, folder, untrained=True)
    training = Training(epochs, batch_size, learning_rate, weight_decay, patience, seed=seed)
    objective = Objective(auxiliary, member_dropout, consistency, temperature, label_share)
    how: dict[str, Any] = {"what": what, "training": training, "objective": objective, "folds": folds}
    how |= {"workers": workers, "runs": runs, "on_step": on_step}
    taught = None if teacher is None else spec_and_folder(teacher, None)
    rows = _Given(data, train, unlabelled, label, groups, columns, seed)
    with connected_if_named(address):
        if found.outputs:
            return _of_outputs(found, place, rows, taught, metric, min_gain, resume, how)
        return _of_the_only(found, place, rows, taught, metric, min_gain, resume, how)


@dataclass(frozen=True)
class _Given:
    """Rows and how they are read, as ``train`` has them."""

    data: Rows | LabelledOutputs | None
    train: Rows | LabelledOutputs | None
    unlabelled: RowsLike | None
    label: str | Mapping[str, str]
    groups: str | None
    columns: ColumnNames | None
    seed: int

    def of_the_only(self, spec: EnsembleSpec) -> TrainingRows:
        """What trains and judges a spec of one output."""
        label, data, train = of_the_only("label", self.label), self.data, self.train
        seen = None if train is None else read_training_rows(spec, of_one_output(train), label, self.columns)
        rest = None
        if data is not None:
            rest = read_rows(spec, of_one_output(data), label, groups=self.groups, columns=self.columns)
        return _divided(seen, rest, self.without_labels(spec), self.seed)

    def by_output(self, spec: EnsembleSpec) -> tuple[dict[str, TrainingRows], Inputs]:
        """The same of each output: rows that have a label of it, divided as if there were no other; and all inputs."""
        from quorate.tuning.runs.one_output import alone

        others, label, columns = self.without_labels(spec), self.label, self.columns
        given = None if self.train is None else read_output_rows(spec, self.train, label, columns=columns)
        rest = None
        if self.data is not None:
            rest = read_output_rows(spec, self.data, label, groups=self.groups, columns=columns)
        found = {}
        for output in spec.outputs:
            read = tuple(alone(spec, output).inputs)
            own = None if others is None else {name: others[name] for name in read}
            seen = None if given is None else given.of(output, read)
            found[output] = _divided(seen, None if rest is None else rest.of(output, read), own, self.seed)
        some = rest or given
        return found, others or {} if some is None else some.inputs

    def without_labels(self, spec: EnsembleSpec) -> dict[str, Any] | None:
        """Request inputs of the rows without labels."""
        return None if self.unlabelled is None else read_inputs(self.unlabelled, wanted_of(spec), self.columns)


def _divided(seen: Labelled | None, rest: Labelled | None, others: Mapping[str, Any] | None, seed: int) -> TrainingRows:
    from quorate.tuning.workflows.train_composite import TrainingRows

    if rest is None:
        return TrainingRows(seen, unlabelled=others)
    if seen is None:
        seen, rest = halves(rest, seed)
    return TrainingRows(seen, *halves(rest, seed + 1), unlabelled=others)


def _of_the_only(
    spec: EnsembleSpec, folder: Path, rows: _Given, teacher: tuple[EnsembleSpec, Path] | None,
    metric: Metrics | None, min_gain: Numbers, resume: str | Path | None, how: Mapping[str, Any],
) -> TrainResult:  # fmt: skip
    from quorate.tuning.workflows.train_composite import train_composite

    return train_composite(
        spec, folder, rows.of_the_only(spec), teacher=teacher, metric=of_the_only("metric", metric),
        min_gain=of_the_only("min_gain", min_gain), resume=None if resume is None else Path(resume), **how,
    )  # fmt: skip


def _of_outputs(
    spec: EnsembleSpec, folder: Path, rows: _Given, teacher: tuple[EnsembleSpec, Path] | None,
    metric: Metrics | None, min_gain: Numbers, resume: str | Path | None, how: Mapping[str, Any],
) -> OutputsTraining:  # fmt: skip
    from quorate.tuning.runs.one_output import alone
    from quorate.tuning.workflows.outputs.train_outputs import train_outputs
    from quorate.tuning.workflows.outputs.tune_outputs import Wanted

    if resume is not None:
        raise TuningError("resume", "a run of several outputs", "leave it out: what is done is not kept apart")
    metrics, least = by_output("metric", metric, spec.outputs), by_output("min_gain", min_gain, spec.outputs)
    wanted = {output: Wanted(metrics.get(output), min_gain=least.get(output, 0.0)) for output in spec.outputs}
    teachers = None
    if teacher is not None:
        taught, place = teacher
        if set(taught.outputs) != set(spec.outputs):
            found = f"its outputs are {', '.join(taught.output_names)}"
            raise TuningError("teacher", found, f"give one with outputs {', '.join(spec.outputs)}")
        teachers = {output: (alone(taught, output), place) for output in spec.outputs}
    parts, shown = rows.by_output(spec)
    return train_outputs(spec, folder, parts, shown, wanted=wanted, teachers=teachers, **how)
