"""A better fusion for an ensemble: labelled rows in, a run folder with a better spec and an honest verdict out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from quorate.cluster.arguments.costs import as_costs
from quorate.cluster.arguments.labelled_rows import halves, read_rows, read_training_rows
from quorate.cluster.arguments.spec import SpecLike, spec_and_folder
from quorate.cluster.local.connection import connected_if_named
from quorate.fusion.extras import require
from quorate.tuning.errors import TuningError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from quorate.cluster.arguments.costs import Costs
    from quorate.cluster.arguments.labelled_rows import Rows
    from quorate.tuning.data.predictions_file import Predictions
    from quorate.tuning.workflows.tune_fusion import TuneResult
    from quorate.tuning.workflows.tune_predictions import PredictionsResult

    PredictionsLike = str | Path | Predictions | Mapping[str, ArrayLike]

Metric = Literal["log_loss", "brier", "accuracy", "balanced_accuracy", "f1_macro", "rmse", "mae"]


@overload
def tune(
    spec: SpecLike, data: Rows, *, metric: Metric | None = ..., costs: Costs | None = ..., min_gain: float = ...,
    folder: str | Path | None = ..., train: Rows | None = ..., folds: int = ..., epochs: int = ..., label: str = ...,
    groups: str | None = ..., time: str | None = ..., weight: str | None = ..., runs: str | Path = ...,
    seed: int = ..., address: str | None = ..., on_step: Callable[[str], None] | None = ...,
) -> TuneResult: ...  # fmt: skip


@overload
def tune(
    *, predictions: PredictionsLike, labels: ArrayLike | None = ..., metric: Metric | None = ...,
    costs: Costs | None = ..., min_gain: float = ..., label: str = ..., runs: str | Path = ..., seed: int = ...,
    on_step: Callable[[str], None] | None = ...,
) -> PredictionsResult: ...  # fmt: skip


def tune(
    spec: SpecLike | None = None,
    data: Rows | None = None,
    *,
    predictions: PredictionsLike | None = None,
    labels: ArrayLike | None = None,
    metric: Metric | None = None,
    costs: Costs | None = None,
    min_gain: float = 0.0,
    folder: str | Path | None = None,
    train: Rows | None = None,
    folds: int = 5,
    epochs: int = 30,
    label: str = "label",
    groups: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    runs: str | Path = "runs",
    seed: int = 0,
    address: str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> TuneResult | PredictionsResult:
    """Fit every alternative on half of the rows and judge them on the other half.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        data: a table, a folder of IDX files, or ``Labelled`` rows, that no member was trained on.
        predictions: instead of both, what members predicted of rows that they were not trained on: a file with columns
            ``label`` and ``MEMBER/CLASS`` (``split``, ``group``, ``time`` and ``weight`` too where there are any),
            ``Predictions``, or (N, C) probabilities by member.
        labels: (N,) index of the true class, for probabilities by member.
        metric: by what alternatives are compared: log_loss, or rmse for predicted values, when None.
        costs: (C, C) cost of deciding for the column when the row is true, or a .csv file of it whose first row and
            column name the classes; compared by instead, where given.
        min_gain: the least gain, in the metric's unit, that is worth asking more members for.
        folder: what the spec's paths start from; that of the file, or the current one, when None.
        train: the rows that the members were trained on: fitted on, out of fold, and all of ``data`` judges.
        folds, epochs: of the members trained anew on folds of ``train``.
        label: the table's column that holds the class.
        groups: the column by which rows belong together, such as a patient: they are never on both sides.
        time: the column by which rows are ordered: what is fitted on came before what it is judged on.
        weight: the column that says how much a row counts.
        runs: where the run's folder is made.
        seed: of all that is drawn.
        address: a Ray cluster to run the members on; this process when None.
        on_step: told what happens next.

    Raises:
        DataError: the rows cannot be read or do not fit the spec.
        TuningError: the spec has members that give no class probabilities.
        PredictionError: predictions that are no probabilities.
    """
    require("tune", "tune")
    if predictions is not None:
        from quorate.cluster.arguments.predictions import as_predictions
        from quorate.tuning.workflows.tune_predictions import tune_predictions

        if spec is not None or data is not None:
            raise TuningError("predictions", "a spec or data beside them", "give a spec and data, or predictions")
        name, given = as_predictions(predictions, labels, label)
        return tune_predictions(
            given,
            metric,
            as_costs(costs, given.classes),
            min_gain=min_gain,
            name=name,
            runs=runs,
            seed=seed,
            on_step=on_step,
        )
    if spec is None or data is None:
        raise TuningError("tune", "no spec, or no data", "give a spec and data, or predictions")
    from quorate.tuning.predictions.out_of_fold import OutOfFold
    from quorate.tuning.predictions.run_on_ray import pick_runner
    from quorate.tuning.training.training_run import Training
    from quorate.tuning.workflows.tune_fusion import tune_fusion

    found, place = spec_and_folder(spec, folder)
    out_of_fold = None
    if train is None:
        rows = read_rows(found, data, label, groups=groups, time=time, weight=weight)
        solved_on, judged_on = halves(rows, seed)
    else:
        rows = read_rows(found, data, label, groups=groups, weight=weight)
        solved_on, judged_on = read_training_rows(found, train, label), rows
        out_of_fold = OutOfFold(folds, Training(epochs=epochs, seed=seed), seed)
    with connected_if_named(address):
        return tune_fusion(
            found, place, solved_on, judged_on, metric or "log_loss", as_costs(costs, found.classes or ()),
            min_gain=min_gain, runs=runs, run=pick_runner(), on_step=on_step, seed=seed, out_of_fold=out_of_fold,
        )  # fmt: skip
