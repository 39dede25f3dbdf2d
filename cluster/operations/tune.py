"""Better weights for an ensemble: labelled rows in, a run folder with a better spec out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from quorate.cluster.arguments.labelled_rows import halves, read_rows, read_training_rows
from quorate.cluster.arguments.spec import SpecLike, spec_and_folder
from quorate.cluster.local.connection import connected_if_named
from quorate.fusion.extras import require
from quorate.tuning.errors import TuningError

if TYPE_CHECKING:
    from quorate.cluster.arguments.labelled_rows import Rows
    from quorate.tuning.workflows.tune_decisions import DecisionResult
    from quorate.tuning.workflows.tune_weights import TuneResult

OnStep = Callable[[str], None]
DecisionMetric = Literal["accuracy", "balanced_accuracy", "f1_macro"]


@overload
def tune(
    spec: SpecLike, data: Rows, *, metric: Literal["log_loss"] = ..., folder: str | Path | None = ...,
    train: Rows | None = ..., folds: int = ..., epochs: int = ..., label: str = ..., runs: str | Path = ...,
    seed: int = ..., address: str | None = ..., on_step: OnStep | None = ...,
) -> TuneResult: ...  # fmt: skip


@overload
def tune(
    spec: SpecLike, data: Rows, *, metric: DecisionMetric, folder: str | Path | None = ..., train: None = ...,
    folds: int = ..., epochs: int = ..., label: str = ..., runs: str | Path = ..., seed: int = ...,
    address: str | None = ..., on_step: OnStep | None = ...,
) -> DecisionResult: ...  # fmt: skip


def tune(
    spec: SpecLike,
    data: Rows,
    *,
    metric: Literal["log_loss"] | DecisionMetric = "log_loss",
    folder: str | Path | None = None,
    train: Rows | None = None,
    folds: int = 5,
    epochs: int = 30,
    label: str = "label",
    runs: str | Path = "runs",
    seed: int = 0,
    address: str | None = None,
    on_step: OnStep | None = None,
) -> TuneResult | DecisionResult:
    """Solve the weights on half of the rows and judge them on the other half.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        data: a table, a folder of IDX files, or ``Labelled`` rows, that no member was trained on.
        metric: what to make best; all but log_loss move borders between classes too.
        folder: what the spec's paths start from; that of the file, or the current one, when None.
        train: the rows that the members were trained on: solved on, out of fold, and all of ``data`` judges.
        folds, epochs: of the members trained anew on folds of ``train``.
        label: the table's column that holds the class.
        runs: where the run's folder is made.
        seed: of the halves and of the folds.
        address: a Ray cluster to run the members on; this process when None.
        on_step: told what happens next.

    Raises:
        DataError: the rows cannot be read or do not fit the spec.
        TuningError: the spec has members whose weights cannot be solved.
    """
    require("tune", "tune")
    from quorate.tuning.predictions.out_of_fold import OutOfFold
    from quorate.tuning.predictions.run_on_ray import pick_runner
    from quorate.tuning.training.training_run import Training
    from quorate.tuning.workflows import tune_decisions, tune_weights

    found, place = spec_and_folder(spec, folder)
    if metric != "log_loss":
        if train is not None:
            raise TuningError("metric", f"{metric} with rows of training", "out of fold only log_loss is solved")
        solved_on, judged_on = halves(read_rows(found, data, label), seed)
        with connected_if_named(address):
            return tune_decisions.tune_decisions(
                found, place, solved_on, judged_on, metric, runs=runs, run=pick_runner(), on_step=on_step, seed=seed
            )
    out_of_fold = None
    if train is None:
        solved_on, judged_on = halves(read_rows(found, data, label), seed)
    else:
        solved_on, judged_on = read_training_rows(found, train, label), read_rows(found, data, label)
        out_of_fold = OutOfFold(folds, Training(epochs=epochs, seed=seed), seed)
    with connected_if_named(address):
        return tune_weights.tune_weights(
            found, place, solved_on, judged_on, runs=runs, run=pick_runner(), on_step=on_step, seed=seed,
            out_of_fold=out_of_fold,
        )  # fmt: skip
