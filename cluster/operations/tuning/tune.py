"""A better fusion for an ensemble: labelled rows in, a run folder with a better spec and an honest verdict out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from quorate.cluster.arguments.costs import as_costs
from quorate.cluster.arguments.labelled_rows import halves, read_rows, read_tokens, read_training_rows
from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, one_output, spec_and_folder
from quorate.cluster.local.connection import connected_if_named
from quorate.fusion.extras import require
from quorate.tuning.errors import TuningError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from quorate.cluster.arguments.costs import Costs
    from quorate.cluster.arguments.labelled_rows import Rows
    from quorate.deployments.rows.column_names import ColumnNames
    from quorate.deployments.spec.ensemble import EnsembleSpec
    from quorate.tuning.data.labelled import Labelled
    from quorate.tuning.data.predictions_file import Predictions
    from quorate.tuning.evaluation.metrics.row_metrics import Metric
    from quorate.tuning.predictions.out_of_fold import OutOfFold
    from quorate.tuning.workflows.guarantees import Promised
    from quorate.tuning.workflows.tune_fusion import TuneResult
    from quorate.tuning.workflows.tune_predictions import PredictionsResult

    PredictionsLike = str | Path | Predictions | Mapping[str, ArrayLike]


@overload
def tune(
    spec: SpecLike, data: Rows, *, metric: Metric | None = ..., costs: Costs | None = ..., min_gain: float = ...,
    latency_price: float = ..., device_price: float = ..., coverage: float | None = ..., by_class: bool = ...,
    folder: str | Path | None = ..., train: Rows | None = ..., folds: int = ..., epochs: int = ..., label: str = ...,
    columns: ColumnNames | None = ..., groups: str | None = ..., time: str | None = ..., weight: str | None = ...,
    runs: str | Path = ..., seed: int = ..., address: str | None = ..., on_step: Callable[[str], None] | None = ...,
) -> TuneResult: ...  # fmt: skip


@overload
def tune(
    *, predictions: PredictionsLike, labels: ArrayLike | None = ..., metric: Metric | None = ...,
    costs: Costs | None = ..., min_gain: float = ..., coverage: float | None = ..., by_class: bool = ...,
    label: str = ..., runs: str | Path = ..., seed: int = ..., on_step: Callable[[str], None] | None = ...,
) -> PredictionsResult: ...  # fmt: skip


@naming_spec_lines
def tune(
    spec: SpecLike | None = None, data: Rows | None = None, *, predictions: PredictionsLike | None = None,
    labels: ArrayLike | None = None, metric: Metric | None = None, costs: Costs | None = None, min_gain: float = 0.0,
    latency_price: float = 0.0, device_price: float = 0.0, coverage: float | None = None, by_class: bool = False,
    folder: str | Path | None = None, train: Rows | None = None, folds: int = 5, epochs: int = 30,
    label: str = "label", columns: ColumnNames | None = None, groups: str | None = None, time: str | None = None,
    weight: str | None = None, runs: str | Path = "runs", seed: int = 0, address: str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> TuneResult | PredictionsResult:  # fmt: skip
    """Fit every alternative on half of the rows and judge them on the other half.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        data: a table, a folder of IDX files, or ``Labelled`` rows, that no member was trained on. Of taggers a table
            with one row a token and a column ``sequence``, which says of what sentence it is.
        predictions: instead of both, what members predicted: a file (see ``read_predictions``), ``Predictions``, or
            (N, C) probabilities, or values (N,), by member.
        labels: (N,) index of the true class, or true values, for arrays by member.
        metric: by what alternatives are compared, by name or a callable: see ``quorate.tuning.row_metric``. log_loss
            of classes and labels, rmse of values, pinball of quantiles, ndcg of rankings when None.
        costs: (C, C) cost of deciding for the column when the row is true, or a .csv file of it (see ``as_costs``).
        min_gain: the least gain, in the metric's unit, that is worth asking more members for.
        latency_price, device_price: what a millisecond of latency, and of members' computing, counts in the metric's
            unit for a row: members are measured then, and a gain has to be worth its milliseconds.
        coverage, by_class: answers have a set of classes, or an interval, that holds the truth with this probability,
            for each class (split conformal prediction, checked in the report); as the spec's ``conformal`` when None.
        folder: what the spec's paths start from; that of the file when None.
        train: the rows that the members were trained on: fitted on, out of fold, and all of ``data`` judges.
        folds, epochs: of the members trained anew on folds of ``train``.
        label, columns: the column of the class; of inputs that the table calls otherwise: ``{"price": "Price"}``.
        groups: the column of rows that belong together, such as a patient's: never on both sides. Of a ranking, lists.
        time, weight: columns by which rows are ordered (what is fitted on came before), and by which they count.
        runs, seed: where the run's folder is made; of all that is drawn.
        address, on_step: a Ray cluster to run the members on, this process when None; told what happens next.

    Raises:
        DataError, TuningError: rows that cannot be read or do not fit the spec; members without class probabilities.
    """
    require("tune", "tune")
    asked: dict[str, Any] = {"min_gain": min_gain, "runs": runs, "seed": seed, "on_step": on_step}
    asked["promised"] = _promised(coverage, by_class)
    if predictions is not None:
        if spec is not None or data is not None:
            raise TuningError("predictions", "a spec or data beside them", "give a spec and data, or predictions")
        return _of_predictions(predictions, labels, label, metric, costs, asked)
    if spec is None or data is None:
        raise TuningError("tune", "no spec, or no data", "give a spec and data, or predictions")
    found, place = spec_and_folder(spec, folder)
    one_output(found)
    if found.of_tokens:
        others = {"train": train, "coverage": coverage, "groups": groups, "time": time}
        others |= {"latency_price": latency_price or None, "device_price": device_price or None, "address": address}
        asked |= {"metric": metric, "costs": as_costs(costs, found.classes or ())}
        return _of_tokens(found, place, read_tokens(found, data, label, weight, columns), asked, others)
    rows = read_rows(found, data, label, groups=groups, time=time, weight=weight, columns=columns)
    if train is not None and time is not None:
        raise TuningError("time", "an order of rows, with rows of training", "leave one out: folds have no order")
    seen = None if train is None else read_training_rows(found, train, label, columns)
    asked |= {"metric": metric, "costs": as_costs(costs, found.classes or ())}
    with connected_if_named(address):
        return _of_rows(found, place, rows, seen, (latency_price, device_price), (folds, epochs), asked)


def _of_rows(
    spec: EnsembleSpec, folder: Path, rows: Labelled, seen: Labelled | None, prices: tuple[float, float],
    trained: tuple[int, int], asked: dict[str, Any],
) -> TuneResult:  # fmt: skip
    """Members are run where this process is connected to a cluster, or here; out of fold on rows that they have seen.

    Args:
        prices: of a millisecond of latency and of computing.
        trained: folds, and epochs of the members that are trained anew on them.
    """
    from quorate.tuning.predictions.run_on_ray import call_on_ray, pick_runner, run_on_ray
    from quorate.tuning.workflows.measured_price import Prices, call_here
    from quorate.tuning.workflows.tune_fusion import tune_fusion

    run = pick_runner()
    asked |= {"run": run, "prices": Prices(*prices, call_on_ray if run is run_on_ray else call_here)}
    if seen is None:
        return tune_fusion(spec, folder, *halves(rows, asked["seed"]), **asked)
    return tune_fusion(spec, folder, seen, rows, out_of_fold=_out_of_fold(*trained, asked["seed"]), **asked)


def _of_tokens(
    spec: EnsembleSpec, folder: Path, rows: Labelled, asked: dict[str, Any], others: Mapping[str, Any]
) -> TuneResult:
    from quorate.tuning.workflows.tune_tokens import tune_tokens

    _refuse_beside_tokens(others)
    del asked["promised"]
    return tune_tokens(spec, folder, rows, **asked)


def _refuse_beside_tokens(given: Mapping[str, Any]) -> None:
    named = [name for name, value in given.items() if value is not None]
    if named:
        fix = f"leave {named[0]} out: sentences are the groups, and members are run in this process"
        raise TuningError("task", f"tokens with {named[0]}", fix)


def _promised(coverage: float | None, by_class: bool) -> Promised | None:
    from quorate.tuning.workflows.guarantees import Promised

    if by_class and coverage is None:
        raise TuningError("by_class", "no coverage", "say how much: coverage=0.9")
    return None if coverage is None else Promised(coverage, by_class)


def _of_predictions(
    predictions: PredictionsLike, labels: ArrayLike | None, label: str, metric: Metric | None, costs: Costs | None,
    asked: dict[str, Any],
) -> PredictionsResult:  # fmt: skip
    from quorate.cluster.arguments.predictions import as_predictions
    from quorate.tuning.workflows.tune_predictions import tune_predictions

    name, given = as_predictions(predictions, labels, label)
    return tune_predictions(given, metric, as_costs(costs, given.classes), name=name, **asked)


def _out_of_fold(folds: int, epochs: int, seed: int) -> OutOfFold:
    from quorate.tuning.predictions.out_of_fold import OutOfFold
    from quorate.tuning.training.epochs import Training

    return OutOfFold(folds, Training(epochs=epochs, seed=seed), seed)
