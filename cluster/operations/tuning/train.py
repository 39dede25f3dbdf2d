"""The parts of an ensemble that learn from each other, trained: labelled rows in, a run folder with a verdict out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.cluster.arguments.input_rows import wanted_of
from quorate.cluster.arguments.labelled_rows import halves, read_rows, read_training_rows
from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, one_output, spec_and_folder
from quorate.cluster.local.connection import connected_if_named
from quorate.deployments.rows.opening import RowsLike
from quorate.deployments.rows.reading import read_inputs
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.cluster.arguments.labelled_rows import Rows
    from quorate.deployments.rows.column_names import ColumnNames
    from quorate.deployments.spec.ensemble import EnsembleSpec
    from quorate.tuning.evaluation.metrics.row_metrics import Metric
    from quorate.tuning.workflows.train_composite import TrainingRows, TrainResult


@naming_spec_lines
def train(
    spec: SpecLike, data: Rows | None = None, *, train: Rows | None = None, unlabelled: RowsLike | None = None,
    teacher: SpecLike | None = None, what: str | Sequence[str] = "heads", epochs: int = 30, batch_size: int = 64,
    learning_rate: float = 1e-3, weight_decay: float = 1e-2, patience: int = 10, auxiliary: float = 0.3,
    member_dropout: float = 0.2, consistency: float = 1.0, temperature: float = 2.0, label_share: float = 0.3,
    folds: int = 5, workers: int | None = None, metric: Metric | None = None, min_gain: float = 0.0,
    folder: str | Path | None = None, label: str = "label", groups: str | None = None,
    columns: ColumnNames | None = None, runs: str | Path = "runs", seed: int = 0, address: str | None = None,
    resume: str | Path | None = None, on_step: Callable[[str], None] | None = None,
) -> TrainResult:  # fmt: skip
    """Train feature fusions, heads and a learned rule on frozen members, or the whole graph end to end.

    Half of the rows train, a quarter decides when to stop and solves weights, a quarter judges what comes out beside
    the ensemble as it was and all that ``tune`` would try.

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
        folder, runs: what the spec's paths start from, that of the file when None; where the run's folder is made.
        label, groups, columns: of the class; by which rows belong together; of inputs that are called otherwise there.
        seed: of all that is drawn: the same gives the same, on one machine and number of workers.
        address: a Ray cluster for the workers; the one that this process is on, or one of its own, when None.
        resume, on_step: folder of a run that was cut off, everything else as it was; told what happens next.

    Raises:
        TuningError: nothing can be trained, or what is trained is no network.
        DataError: rows cannot be read or do not fit the spec.
    """
    require("tune", "train")
    from quorate.tuning.composite.loss import Objective
    from quorate.tuning.training.epochs import Training
    from quorate.tuning.workflows.train_composite import train_composite

    found, place = spec_and_folder(spec, folder, untrained=True)
    one_output(found)
    rows = _rows(found, data, train, unlabelled, label, groups, seed, columns)
    training = Training(epochs, batch_size, learning_rate, weight_decay, patience, seed=seed)
    objective = Objective(auxiliary, member_dropout, consistency, temperature, label_share)
    with connected_if_named(address):
        return train_composite(
            found, place, rows, what=what, teacher=None if teacher is None else spec_and_folder(teacher, None),
            training=training, objective=objective, folds=folds, workers=workers, metric=metric, min_gain=min_gain,
            runs=runs, resume=None if resume is None else Path(resume), on_step=on_step,
        )  # fmt: skip


def _rows(
    spec: EnsembleSpec, data: Rows | None, train: Rows | None,
    unlabelled: RowsLike | None, label: str, groups: str | None, seed: int, columns: ColumnNames | None,
) -> TrainingRows:  # fmt: skip
    from quorate.tuning.workflows.train_composite import TrainingRows

    others = None if unlabelled is None else _inputs(spec, unlabelled, columns)
    seen = None if train is None else read_training_rows(spec, train, label, columns)
    if data is None:
        return TrainingRows(seen, unlabelled=others)
    rest = read_rows(spec, data, label, groups=groups, columns=columns)
    if seen is None:
        seen, rest = halves(rest, seed)
    return TrainingRows(seen, *halves(rest, seed + 1), unlabelled=others)


def _inputs(spec: EnsembleSpec, rows: RowsLike, columns: ColumnNames | None) -> dict[str, Any]:
    """Request inputs of rows without labels."""
    return read_inputs(rows, wanted_of(spec), columns)
