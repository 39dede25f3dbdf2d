"""A better fusion for an ensemble: labelled rows in, a run folder with a better spec and an honest verdict out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from quorate.cluster.arguments.by_output import by_output, of_the_only
from quorate.cluster.arguments.costs import as_costs
from quorate.cluster.arguments.labelled_rows import (
    LABEL,
    halves,
    of_one_output,
    read_output_rows,
    read_rows,
    read_tokens,
    read_training_rows,
)
from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.cluster.jobs.through_jobs import through_jobs
from quorate.cluster.local.connection import connected_if_named
from quorate.fusion.extras import require
from quorate.tuning.errors import TuningError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from quorate.cluster.arguments.costs import Costs
    from quorate.cluster.arguments.labelled_rows import Rows
    from quorate.cluster.jobs.job_run import JobRun
    from quorate.deployments.rows.column_names import ColumnNames
    from quorate.deployments.rows.opening import RowsLike
    from quorate.deployments.spec.ensemble import EnsembleSpec
    from quorate.tuning.alternatives.promises.risk import Risk
    from quorate.tuning.data.labelled_outputs import LabelledOutputs
    from quorate.tuning.data.predictions_file import Predictions
    from quorate.tuning.evaluation.metrics.row_metrics import Metric
    from quorate.tuning.predictions.out_of_fold import OutOfFold
    from quorate.tuning.workflows.continued.train_on import TrainOn
    from quorate.tuning.workflows.guarantees import Promised
    from quorate.tuning.workflows.outputs.tune_outputs import OutputsResult
    from quorate.tuning.workflows.tune_predictions import PredictionsResult
    from quorate.tuning.workflows.tune_result import TuneResult

    Metrics = Metric | Mapping[str, Metric]
    CostsLike = Costs | Mapping[str, Costs]
    Numbers = float | Mapping[str, float]
    PredictionsLike = str | Path | Predictions | Mapping[str, ArrayLike]


@overload
def tune(
    spec: SpecLike, data: Rows, *, metric: Metric | None = ..., costs: Costs | None = ..., min_gain: float = ...,
    latency_price: float = ..., device_price: float = ..., coverage: float | None = ..., by_class: bool = ...,
    max_loss: float | None = ..., max_error: float | None = ..., confidence: float = ..., explore: float = ...,
    refit: bool = ...,
    folder: str | Path | None = ..., train: Rows | None = ..., folds: int = ..., epochs: int = ..., label: str = ...,
    columns: ColumnNames | None = ..., groups: str | None = ..., time: str | None = ..., weight: str | None = ...,
    runs: str | Path = ..., seed: int = ..., address: None = ..., on_step: Callable[[str], None] | None = ...,
) -> TuneResult: ...  # fmt: skip


@overload
def tune(
    spec: str | Path, data: Rows | None = ..., *, more: Rows, metric: Metric | None = ..., costs: Costs | None = ...,
    min_gain: float = ..., latency_price: float = ..., device_price: float = ..., coverage: float | None = ...,
    by_class: bool = ..., max_loss: float | None = ..., max_error: float | None = ..., confidence: float = ...,
    explore: float = ..., refit: bool = ..., train: Rows | None = ..., train_on: bool = ..., epochs: int = ...,
    label: str = ..., columns: ColumnNames | None = ..., groups: str | None = ..., time: str | None = ...,
    weight: str | None = ..., runs: str | Path = ..., seed: int = ..., address: None = ...,
    on_step: Callable[[str], None] | None = ...,
) -> TuneResult: ...  # fmt: skip


@overload
def tune(
    spec: SpecLike, data: RowsLike | LabelledOutputs, *, label: Mapping[str, str], metric: Metrics | None = ...,
    costs: CostsLike | None = ..., min_gain: Numbers = ..., coverage: Numbers | None = ..., by_class: bool = ...,
    max_loss: Numbers | None = ..., max_error: Numbers | None = ..., confidence: float = ..., explore: float = ...,
    refit: bool = ...,
    folder: str | Path | None = ..., columns: ColumnNames | None = ..., groups: str | None = ...,
    time: str | None = ..., weight: str | None = ..., runs: str | Path = ..., seed: int = ...,
    address: None = ..., on_step: Callable[[str], None] | None = ...,
) -> OutputsResult: ...  # fmt: skip


@overload
def tune(
    *, predictions: PredictionsLike, labels: ArrayLike | None = ..., metric: Metric | None = ...,
    costs: Costs | None = ..., min_gain: float = ..., coverage: float | None = ..., by_class: bool = ...,
    max_loss: float | None = ..., max_error: float | None = ..., confidence: float = ..., explore: float = ...,
    refit: bool = ...,
    label: str = ..., runs: str | Path = ..., seed: int = ..., on_step: Callable[[str], None] | None = ...,
) -> PredictionsResult: ...  # fmt: skip


@overload
def tune(
    spec: SpecLike, data: Rows | LabelledOutputs, *, address: str, **asked: Any
) -> TuneResult | OutputsResult | JobRun: ...  # fmt: skip


@naming_spec_lines
@through_jobs
def tune(
    spec: SpecLike | None = None, data: Rows | LabelledOutputs | None = None, *,
    more: Rows | None = None, predictions: PredictionsLike | None = None, labels: ArrayLike | None = None,
    metric: Metrics | None = None, costs: CostsLike | None = None, min_gain: Numbers = 0.0, latency_price: float = 0.0,
    device_price: float = 0.0, coverage: Numbers | None = None, by_class: bool = False,
    max_loss: Numbers | None = None, max_error: Numbers | None = None, confidence: float = 0.95, explore: float = 0.0,
    refit: bool = True, folder: str | Path | None = None, train: Rows | None = None, train_on: bool = False,
    folds: int = 5, epochs: int = 30, label: str | Mapping[str, str] = LABEL, columns: ColumnNames | None = None,
    groups: str | None = None, time: str | None = None, weight: str | None = None, runs: str | Path = "runs",
    seed: int = 0, address: str | None = None, on_step: Callable[[str], None] | None = None,
) -> TuneResult | OutputsResult | PredictionsResult:  # fmt: skip
    """Fit every alternative on half of the rows and judge them on the other half; of several outputs each by itself.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        data: a table, a folder of IDX files, or ``Labelled`` rows (``LabelledOutputs`` of several outputs), that no
            member was trained on. Of taggers a table of tokens: a column ``sequence`` says of what sentence each is.
        more: new labelled rows, or a record of answers that have labels, for a run of tune that is taken on: ``spec``
            is its folder, ``data`` rows that it had, where members have to be run on these again, or trained on.
        train_on: with ``more``: networks among the members are trained on, beside ``train``, as further candidates.
        predictions: what members predicted, instead: a file (``read_predictions``), ``Predictions``, arrays by member
            with (N,) ``labels``; or a record of answers (``read_record``), ``label`` naming which of several outputs.
        metric: by what alternatives are compared, by name or a callable: see ``quorate.tuning.row_metric``. Of several
            outputs it may be a mapping by output, as costs, min_gain, coverage, max_loss and max_error may.
        costs: (C, C) cost of deciding for the column when the row is true, or a .csv file of it (see ``as_costs``).
        min_gain: the least gain, in the metric's unit, that is worth asking more members for.
        latency_price, device_price: what a millisecond of latency, and of members' computing, counts in the metric's
            unit for a row: members are measured then, and a gain has to be worth its milliseconds.
        coverage, by_class: answers have a set of classes, or an interval, that holds the truth with this probability,
            for each class (split conformal prediction, checked in the report); as the spec's ``conformal`` when None.
        max_loss, max_error: accuracy that an ensemble may lose as a cascade or a bandit, which ask few members where
            sure; errors among answered rows, of which the others abstain. ``confidence``: that they hold on new rows.
        explore: with ``max_loss``: a bandit, which asks everybody of this share of rows, drawn at random.
        refit: what is served is fitted again on all rows after the verdict (but with promises: they want other rows).
        train, folds, epochs: the members' training rows, fitted on out of fold by others like them; ``data`` judges.
        label, columns: the column of the class; of several outputs by output, ``{"mood": "Mood"}``, and called as these
            are if left out (a row may have none for some); of inputs called otherwise: ``{"price": "Price"}``.
        groups: the column of rows that belong together, such as a patient's: never on both sides. Of a ranking, lists.
        time, weight: columns by which rows are ordered (what is fitted on came before), and by which they count.
        folder, runs, seed: what the spec's paths start from (its file's); where the run is made; of all that is drawn.
        address, on_step: a Ray cluster to run the members on, this process when None (of a Jobs address the whole runs
            there: a ``JobRun``); told what happens next.

    Raises:
        DataError, TuningError: rows that cannot be read or do not fit the spec; members without class probabilities.
    """
    require("tune", "tune")
    how: dict[str, Any] = {"runs": runs, "seed": seed, "on_step": on_step, "refit": refit}
    wanted = {"metric": metric, "costs": costs, "min_gain": min_gain, "coverage": coverage, "by_class": by_class}
    wanted |= {"max_loss": max_loss, "max_error": max_error, "confidence": confidence, "explore": explore}
    read = {"label": label, "groups": groups, "time": time, "weight": weight, "columns": columns}
    if predictions is not None:
        return _of_predictions(predictions, (spec, data, more), labels, label, wanted, how)
    prices, trained = (latency_price, device_price), (folds, epochs)
    if more is None:
        _check_alone(train_on)
        return _of_spec(spec, data, folder, train, trained, prices, read, wanted, how, address)
    with connected_if_named(address):
        seen = (epochs, train) if train_on else None
        return _of_more(spec, data, more, {"folder": folder}, read, prices, seen, wanted, how)


def _check_alone(train_on: bool) -> None:
    if train_on:
        raise TuningError("train_on", "no more rows", "give a run and more: tune(RUN, more=rows, train_on=True)")


def _of_spec(
    spec: SpecLike | None, data: Rows | LabelledOutputs | None, folder: str | Path | None, train: Rows | None,
    trained: tuple[int, int], prices: tuple[float, float], read: Mapping[str, Any], wanted: Mapping[str, Any],
    how: Mapping[str, Any], address: str | None,
) -> TuneResult | OutputsResult:  # fmt: skip
    if spec is None or data is None:
        raise TuningError("tune", "no spec, or no data", "give a spec and data, or predictions")
    found, place = spec_and_folder(spec, folder)
    others = {"latency_price": prices[0] or None, "device_price": prices[1] or None, "train": train}
    if found.outputs:
        return _of_outputs(found, place, data, read, wanted, how, address, others)
    asked = {**_of_the_only(found, wanted), **how}
    if found.of_tokens:
        others |= {"coverage": wanted["coverage"], "groups": read["groups"], "time": read["time"], "address": address}
        return _of_tokens(found, place, data, read, asked, others)
    with connected_if_named(address):
        return _of_rows(found, place, data, train, read, prices, trained, asked)


def _of_outputs(
    spec: EnsembleSpec, folder: Path, data: Rows | LabelledOutputs, read: Mapping[str, Any], wanted: Mapping[str, Any],
    how: Mapping[str, Any], address: str | None, others: Mapping[str, Any],
) -> OutputsResult:  # fmt: skip
    from quorate.tuning.predictions.run_on_ray import pick_runner
    from quorate.tuning.workflows.outputs.tune_outputs import Wanted, tune_outputs

    _refuse_beside_outputs(others)
    rows = read_output_rows(spec, data, **read, uneven=True)
    several = ("metric", "costs", "min_gain", "coverage", "max_loss", "max_error")
    given = {what: by_output(what, wanted[what], spec.outputs) for what in several}
    promises = {output: coverage for output, coverage in given["coverage"].items() if coverage is not None}
    if not promises:
        _promised(None, wanted["by_class"])
    how, asked = {**how}, {}
    refit = how.pop("refit")
    for output in spec.outputs:
        promised = _promised(promises[output], wanted["by_class"]) if output in promises else None
        costs = as_costs(given["costs"].get(output), spec.view(output).classes or ())
        min_gain = given["min_gain"].get(output, 0.0)
        limits = given["max_loss"].get(output), given["max_error"].get(output)
        risk = _risk(*limits, wanted["confidence"], wanted["explore"])
        asked[output] = Wanted(given["metric"].get(output), costs, min_gain, promised, risk, refit)
    with connected_if_named(address):
        return tune_outputs(spec, folder, rows, asked, run=pick_runner(), **how)


def _of_the_only(spec: EnsembleSpec, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of a spec's one output."""
    given = {what: of_the_only(what, one) for what, one in wanted.items()}
    return {
        "metric": given["metric"],
        "costs": as_costs(given["costs"], spec.classes or ()),
        "min_gain": given["min_gain"],
        "promised": _promised(given["coverage"], wanted["by_class"]),
        "risk": _risk(given["max_loss"], given["max_error"], wanted["confidence"], wanted["explore"]),
    }


def _refuse_beside_outputs(given: Mapping[str, Any]) -> None:
    why = {
        "train": "members are trained anew by the labels of one",
        "latency_price": "a member that two of them read is paid for once",
        "device_price": "a member that two of them read is paid for once",
    }
    for name, value in given.items():
        if value is not None:
            fix = "leave it out, or tune a copy of the spec with one output"
            raise TuningError(name, f"several outputs: {why[name]}", fix)


def _of_rows(
    spec: EnsembleSpec, folder: Path, data: Rows | LabelledOutputs, train: Rows | None, read: Mapping[str, Any],
    prices: tuple[float, float], trained: tuple[int, int], asked: dict[str, Any],
) -> TuneResult:  # fmt: skip
    """Members are run where this process is connected to a cluster, or here; out of fold on rows that they have seen.

    Args:
        read: which columns are read, as of ``read_rows``.
        prices: of a millisecond of latency and of computing.
        trained: folds, and epochs of the members that are trained anew on them.
    """
    from quorate.tuning.predictions.run_on_ray import call_on_ray, pick_runner, run_on_ray
    from quorate.tuning.workflows.measured_price import Prices, call_here
    from quorate.tuning.workflows.tune_fusion import tune_fusion

    label = of_the_only("label", read["label"])
    rows = read_rows(spec, of_one_output(data), **{**read, "label": label}, uneven=train is None)
    if train is not None and read["time"] is not None:
        raise TuningError("time", "an order of rows, with rows of training", "leave one out: folds have no order")
    run = pick_runner()
    asked |= {"run": run, "prices": Prices(*prices, call_on_ray if run is run_on_ray else call_here)}
    if train is None:
        return tune_fusion(spec, folder, *halves(rows, asked["seed"]), **asked)
    seen = read_training_rows(spec, train, label, read["columns"])
    return tune_fusion(spec, folder, seen, rows, out_of_fold=_out_of_fold(*trained, asked["seed"]), **asked)


def _of_more(
    spec: SpecLike | None, data: Rows | LabelledOutputs | None, more: Rows, others: Mapping[str, Any],
    read: Mapping[str, Any], prices: tuple[float, float], trained: tuple[int, Rows | None] | None,
    wanted: Mapping[str, Any], how: Mapping[str, Any],
) -> TuneResult:  # fmt: skip
    from quorate.deployments.learning.reading import is_record
    from quorate.tuning.data.later.more_rows import more_of_data
    from quorate.tuning.data.recorded import more_of_record
    from quorate.tuning.predictions.run_on_ray import call_on_ray, pick_runner, run_on_ray
    from quorate.tuning.workflows.continued.former_run import former_run
    from quorate.tuning.workflows.continued.tune_more import tune_more
    from quorate.tuning.workflows.measured_price import Prices, call_here

    for name, value in others.items():
        if value is not None:
            raise TuningError(name, "a run that is taken on", f"leave {name} out: the run says it")
    if not isinstance(spec, str | Path):
        raise TuningError("more", "no run", "give the folder of a run of quorate tune, or a spec in it")
    former = former_run(spec)
    of = {**read, "label": of_the_only("label", read["label"])}
    if isinstance(more, str | Path) and is_record(more):
        new = more_of_record(more, former.whole, former.folder)
    else:
        new = more_of_data(read_rows(former.whole, of_one_output(more), **of, uneven=True))
    old = None if data is None else read_rows(former.whole, of_one_output(data), **of, uneven=True)
    run = pick_runner()
    asked = {**_of_the_only(former.whole, wanted), **how, "run": run}
    asked["prices"] = Prices(*prices, call_on_ray if run is run_on_ray else call_here)
    if trained is not None:
        asked["train_on"] = _train_on(former.whole, *trained, of, how["seed"])
    return tune_more(former, new, old=old, **asked)


def _train_on(spec: EnsembleSpec, epochs: int, train: Rows | None, read: Mapping[str, Any], seed: int) -> TrainOn:
    from quorate.tuning.training.epochs import Training
    from quorate.tuning.workflows.continued.train_on import TrainOn

    seen = None if train is None else read_training_rows(spec, train, read["label"], read["columns"])
    return TrainOn(Training(epochs=epochs, seed=seed), seen)


def _of_tokens(
    spec: EnsembleSpec, folder: Path, data: Rows | LabelledOutputs, read: Mapping[str, Any], asked: dict[str, Any],
    others: Mapping[str, Any],
) -> TuneResult:  # fmt: skip
    from quorate.tuning.workflows.tune_tokens import tune_tokens

    label = of_the_only("label", read["label"])
    rows = read_tokens(spec, of_one_output(data), label, read["weight"], read["columns"])
    _refuse_beside_tokens({**others, "max_loss or max_error": asked["risk"]})
    del asked["promised"], asked["risk"]
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


def _risk(max_loss: float | None, max_error: float | None, confidence: float, explore: float) -> Risk | None:
    from quorate.tuning.alternatives.promises.risk import Risk

    risk = Risk(max_loss, max_error, confidence, explore)
    return None if max_loss is None and max_error is None else risk


def _of_predictions(
    predictions: PredictionsLike, beside: Sequence[Any], labels: ArrayLike | None, label: str | Mapping[str, str],
    wanted: Mapping[str, Any], how: Mapping[str, Any],
) -> PredictionsResult:  # fmt: skip
    if any(one is not None for one in beside):
        raise TuningError("predictions", "a spec or data beside them", "give a spec and data, or predictions")
    from quorate.cluster.arguments.predictions import as_predictions
    from quorate.tuning.workflows.tune_predictions import tune_predictions

    given = {what: of_the_only(what, one) for what, one in wanted.items()}
    name, found = as_predictions(predictions, labels, of_the_only("label", label))
    return tune_predictions(
        found, given["metric"], as_costs(given["costs"], found.classes), min_gain=given["min_gain"],
        promised=_promised(given["coverage"], given["by_class"]),
        risk=_risk(given["max_loss"], given["max_error"], given["confidence"], given["explore"]), name=name, **how,
    )  # fmt: skip


def _out_of_fold(folds: int, epochs: int, seed: int) -> OutOfFold:
    from quorate.tuning.predictions.out_of_fold import OutOfFold
    from quorate.tuning.training.epochs import Training

    return OutOfFold(folds, Training(epochs=epochs, seed=seed), seed)
