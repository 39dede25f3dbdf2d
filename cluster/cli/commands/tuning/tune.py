from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.cluster.cli.options import (
    Columns,
    Json,
    Labels,
    RunAddress,
    Runs,
    Seed,
    as_columns,
    by_output,
    label_of,
    numbers_by_output,
    refuse,
    seconds_of,
)
from quorate.cluster.cli.tables import progress, show


class Search(str, Enum):
    """What ``tune`` may change."""

    weights = "weights"
    architecture = "architecture"


# What each use of the command reads; the others refuse it.
_RESUME = {"resume", "data", "time", "workers", "address", "as_json"}
_WEIGHTS = {
    "metric",
    "costs",
    "min_gain",
    "latency_price",
    "device_price",
    "coverage",
    "by_class",
    "max_loss",
    "max_error",
    "confidence",
    "explore",
    "refit",
    "train",
    "folds",
    "groups",
    "weight",
    "more",
    "train_on",
}
_PREDICTIONS = {
    "predictions", "metric", "costs", "min_gain", "coverage", "by_class", "max_loss", "max_error", "confidence",
    "explore", "refit", "label", "runs", "seed", "as_json"
}  # fmt: skip
_ARCHITECTURE = {"trials", "member_trials", "objective", "workers"}

MaybeSpec = Annotated[
    Path | None,
    typer.Argument(
        metavar="SPEC",
        help="The spec file; with --more a run's folder; none with --resume, none needed for an architecture.",
        show_default=False,
    ),
]
MaybeRows = Annotated[
    Path | None,
    typer.Option(
        help="Labelled rows: .csv, .parquet, .arrow, .json, .jsonl, .npz, a data set of Hugging Face, a folder of IDX "
        "files, of images or of sounds; with --resume if they were moved.",
        show_default=False,
    ),
]
PredictionsFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|RECORD",
        help="Instead of SPEC and --data what members predicted: .parquet, .csv, .arrow or .npz with columns label and "
        "MEMBER/CLASS, or MEMBER for values, MEMBER/LEVEL for quantiles, MEMBER and query for rankings; and split, "
        "group, time, weight and sequence (of tokens) where there are any. Or a record of answers that have labels.",
        show_default=False,
    ),
]
MoreRows = Annotated[
    Path | None,
    typer.Option(
        metavar="ROWS|RECORD",
        help="Rows that have come since, or a record of answers that have labels: SPEC is then a run's folder or a "
        "spec in it, which is taken on. Members run on what they have not been asked about (weights).",
        show_default=False,
    ),
]
TrainingRows = Annotated[
    Path | None,
    typer.Option(
        help="The rows the members were trained on (weights): solved on, out of fold; all of --data judges.",
        show_default=False,
    ),
]
TrainMembersOn = Annotated[
    bool,
    typer.Option(
        "--train-on",
        help="With --more: networks are trained on from their weights, beside the rows of --train where there are any, "
        "as candidates beside what they were.",
    ),
]
_METRICS = (
    "What alternatives are compared by (weights). Classes: log_loss, brier, accuracy, balanced_accuracy, f1_macro, "
    "roc_auc, average_precision. Several labels a row: log_loss, brier, f1_macro, f1_micro, roc_auc, "
    "average_precision. Values: rmse, mae, r2, crps, pinball@LEVEL. Quantiles: pinball, crps. Rankings: ndcg, ndcg@K. "
    "Tokens: span_f1 where classes are O, B-x and I-x, token_accuracy. The first of each when left out."
)
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME|OUTPUT=NAME", help=_METRICS, show_default=False),
]
CostsFile = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE|OUTPUT=FILE",
        help="A .csv of what each decision costs (weights): the true class down, the decision across, both by name.",
        show_default=False,
    ),
]
MinGains = Annotated[
    list[str] | None,
    typer.Option(
        "--min-gain",
        metavar="NUMBER|OUTPUT=NUMBER",
        help="The least gain, in the metric's unit, that is worth more members (weights).",
        show_default="0",
    ),
]
LatencyPrice = Annotated[
    float,
    typer.Option(min=0, help="What a millisecond of latency counts, in the metric's unit (weights): measured then."),
]
DevicePrice = Annotated[
    float, typer.Option(min=0, help="What a millisecond of members' computing for a row counts (weights).")
]
Coverage = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SHARE|OUTPUT=SHARE",
        help="Answers hold a set of classes, or an interval, with the truth in it with this probability (weights).",
        show_default=False,
    ),
]
MaxLoss = Annotated[
    list[str] | None,
    typer.Option(
        "--max-loss",
        metavar="SHARE|OUTPUT=SHARE",
        help="An ensemble is served as a cascade, which asks few members for rows that they are sure of and is shown "
        "to have at most this much less accuracy (weights).",
        show_default=False,
    ),
]
MaxError = Annotated[
    list[str] | None,
    typer.Option(
        "--max-error",
        metavar="SHARE|OUTPUT=SHARE",
        help="Rows that answers are not sure of abstain: of the others at most this share is wrong (weights).",
        show_default=False,
    ),
]
Confidence = Annotated[
    float, typer.Option(help="With --max-loss or --max-error: how surely they hold on new rows (weights).")
]
Explore = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.5,
        help="With --max-loss: a bandit chooses whom to ask, and this share of rows, drawn at random, asks everybody, "
        "so that other choices can be estimated from what is recorded, and learned (weights).",
    ),
]
Refit = Annotated[
    bool,
    typer.Option(
        "--refit/--no-refit",
        help="What is served is fitted again on all rows once the verdict is there, which stays that on half of them; "
        "not with --coverage, --max-loss or --max-error, which are kept for other rows than those fitted on (weights).",
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Rows of one group are never on both sides; of rankings the column of the query (weights).",
        show_default=False,
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|TIME",
        help="Weights: a column, to fit on what came before and judge on what came after. Architecture: how long to "
        "search, such as 90s, 8m or 1h: rounds of members and structures.",
        show_default=False,
    ),
]
Weight = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="How much a row counts (weights).", show_default=False)
]
Objectives = Annotated[
    list[str] | None,
    typer.Option(
        help="What to make small, most important first (architecture): log_loss, error_rate, "
        "p95_latency_s, device_s_per_request, memory_bytes.",
        show_default="log_loss p95_latency_s",
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Trials at once (architecture); as many as fit.", show_default=False)
]
Resume = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Take up the sweep in this folder.", show_default=False)
]


def tune(
    context: typer.Context, spec: MaybeSpec = None, data: MaybeRows = None, more: MoreRows = None,
    predictions: PredictionsFile = None, train: TrainingRows = None, train_on: TrainMembersOn = False,
    folds: Annotated[int, typer.Option(min=2, help="With --train: members are trained anew on so many.")] = 5,
    search: Annotated[Search, typer.Option(help="What may change.")] = Search.weights,
    metric: Metrics = None, costs: CostsFile = None, min_gain: MinGains = None,
    latency_price: LatencyPrice = 0.0, device_price: DevicePrice = 0.0, coverage: Coverage = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="With --coverage: for the rows of each class.")] = False,
    max_loss: MaxLoss = None, max_error: MaxError = None, confidence: Confidence = 0.95, explore: Explore = 0.0,
    refit: Refit = True, label: Labels = None, column: Columns = None, groups: Groups = None, time: Time = None,
    weight: Weight = None, runs: Runs = Path("runs"), seed: Seed = 0,
    trials: Annotated[int, typer.Option(min=1, help="Structures to try (architecture).")] = 200,
    member_trials: Annotated[int, typer.Option(min=0, help="Members to train beside the given (architecture).")] = 16,
    epochs: Annotated[int, typer.Option(min=1, help="Of a member that is not stopped early, or with --train.")] = 30,
    objective: Objectives = None, workers: Workers = None, resume: Resume = None, address: RunAddress = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Find a better ensemble on labelled rows that no member was trained on: another fusion, or another architecture.

    Weights: every alternative (each member alone, the uniform mean, the spec as it is, pools, calibrated and stacked
    ones) is fitted on half of the rows and judged on the other half; the verdict says which to serve.

    Architecture: most of the rows train members, some are for structures, some judge. The result is a spec, deployable
    as it is; --resume takes up a search that was cut off. Without SPEC inputs and classes are those of the rows.

    Example: quorate tune --data labelled.npz --search architecture --time 8m
    """
    _refuse_alone(context)
    if resume is not None:
        refuse(context, set(context.params) - _RESUME, "a new search, without --resume")
        return _resume(resume, data, seconds_of(time, "--time"), workers, address, as_json)
    wanted = {**_wanted(metric, costs, min_gain, coverage), **_risk(max_loss, max_error, confidence, explore)}
    wanted |= {"by_class": by_class, "refit": refit}
    asked: dict[str, Any] = {"runs": runs, "seed": seed, **label_of(label)}
    if predictions is not None:
        refuse(context, set(context.params) - _PREDICTIONS, "SPEC and --data, without --predictions")
        return _of_predictions(predictions, {**asked, **wanted}, as_json)
    if (data is None and more is None) or (spec is None and search is Search.weights):
        raise typer.BadParameter("give SPEC and --data, RUN and --more, --predictions FILE, or --resume RUN")
    _refuse_the_others(context, search, train, more)
    asked |= {"columns": as_columns(column), "epochs": epochs, "address": address}
    if search is Search.architecture:
        objectives = tuple(objective or ("log_loss", "p95_latency_s"))
        asked |= {"trials": trials, "member_trials": member_trials, "objectives": objectives}
        return _sweep(spec, data, {**asked, "time_s": seconds_of(time, "--time"), "workers": workers}, as_json)
    asked |= {**wanted, "more": more, "train": train, "train_on": train_on, "folds": folds}
    asked |= {"groups": groups, "time": time, "weight": weight}
    return _weights(spec, data, {**asked, "latency_price": latency_price, "device_price": device_price}, as_json)


def _refuse_alone(context: typer.Context) -> None:
    """Options that say something about another one, without it."""
    given = context.params
    if not given["coverage"]:
        refuse(context, ["by_class"], "--coverage")
    if not given["max_loss"] and not given["max_error"]:
        refuse(context, ["confidence"], "--max-loss or --max-error")
    if not given["max_loss"]:
        refuse(context, ["explore"], "--max-loss")
    if not given["more"]:
        refuse(context, ["train_on"], "--more")


def _weights(spec: Path | None, data: Path | None, asked: dict[str, Any], as_json: bool) -> None:
    from quorate.cluster.operations.tuning import tune as operation

    tune_here: Any = operation.tune  # which of its uses is meant, the options say
    with progress("running members", as_json) as tell:
        result = tune_here(spec, data, **asked, on_step=tell)
    report = {**result.to_dict(), "spec": str(result.folder / "spec.yaml"), "search": Search.weights.value}
    show(result, report, as_json)


def _wanted(
    metric: list[str] | None, costs: list[str] | None, min_gain: list[str] | None, coverage: list[str] | None
) -> dict[str, Any]:
    """What is asked of the answer, or of each of several."""
    return {
        "metric": by_output(metric, "--metric"),
        "costs": by_output(costs, "--costs"),
        "min_gain": numbers_by_output(min_gain, "--min-gain") or 0.0,
        "coverage": numbers_by_output(coverage, "--coverage"),
    }


def _risk(max_loss: list[str] | None, max_error: list[str] | None, confidence: float, explore: float) -> dict[str, Any]:
    """What answers may lose."""
    return {
        "max_loss": numbers_by_output(max_loss, "--max-loss"),
        "max_error": numbers_by_output(max_error, "--max-error"),
        "confidence": confidence,
        "explore": explore,
    }


def _refuse_the_others(context: typer.Context, search: Search, train: Path | None, more: Path | None) -> None:
    """Options that this search does not read."""
    if more is not None:
        refuse(context, ["folds"], "--train without --more")
        if not context.params["train_on"]:
            refuse(context, ["train", "epochs"], "--more with --train-on, or for --data without --more")
    if search is Search.architecture:
        refuse(context, _WEIGHTS, "--search weights; an architecture has --objective")
    else:
        refuse(context, _ARCHITECTURE, "--search architecture")
        if train is None and not context.params["train_on"]:
            refuse(context, ["folds", "epochs"], "--train")


def _of_predictions(file: str, asked: dict[str, Any], as_json: bool) -> None:
    from quorate.cluster.operations.tuning import tune as operation

    with progress("reading predictions", as_json) as tell:
        result = operation.tune(predictions=file, **asked, on_step=tell)
    show(result, {**result.to_dict(), "run": str(result.folder)}, as_json)


def _sweep(spec: Path | None, data: Path | None, asked: dict[str, Any], as_json: bool) -> None:
    from quorate.cluster.cli.sweep_board import sweep_board
    from quorate.cluster.operations.tuning import sweep as operation

    assert data is not None
    with sweep_board(as_json) as tell:
        found = operation.sweep(spec, data, **asked, on_progress=tell)
    show(found, found.to_dict(), as_json)


def _resume(
    run: Path, data: Path | None, time_s: float | None, workers: int | None, address: str | None, as_json: bool
) -> None:
    from quorate.cluster.cli.sweep_board import sweep_board
    from quorate.cluster.operations.tuning import sweep as operation

    with sweep_board(as_json) as tell:
        found = operation.resume(run, data, time_s=time_s, workers=workers, address=address, on_progress=tell)
    show(found, found.to_dict(), as_json)
