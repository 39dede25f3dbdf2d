"""The commands that look for something better, and the one that makes it live."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from quorate.cluster.cli.options import Address, Json, Spec, show

if TYPE_CHECKING:
    from quorate.tuning import DecisionResult, TuneResult


class Search(str, Enum):
    """What ``tune`` may change."""

    weights = "weights"
    architecture = "architecture"


class Metric(str, Enum):
    """What ``tune`` solves weights for."""

    log_loss = "log_loss"
    accuracy = "accuracy"
    balanced_accuracy = "balanced_accuracy"
    f1_macro = "f1_macro"


MaybeSpec = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(metavar="SPEC", help="The spec file; with --resume none.", show_default=False),
]
MaybeRows = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Labelled rows: .parquet, .arrow, .npz, or a folder of IDX files.", show_default=False),
]
TrainingRows = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="The rows the members were trained on (weights): solved on, out of fold; all of --data judges.",
        show_default=False,
    ),
]
MetricOption = Annotated[
    Metric, typer.Option(help="What to make best (weights); all but log_loss move borders between classes too.")
]
Objectives = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        help="What to make small, most important first (architecture): log_loss, error_rate, "
        "p95_latency_s, device_s_per_request, memory_bytes.",
        show_default="log_loss p95_latency_s",
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time", min=1, help="Stop after so many seconds (architecture).", show_default=False),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Trials at once (architecture); as many as fit.", show_default=False)
]
Resume = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Take up the sweep in this folder.", show_default=False)
]
MaybeAddress = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Run on this Ray cluster; without it, on this machine.", show_default=False),
]


def tune(
    spec: MaybeSpec = None,
    data: MaybeRows = None,
    train: TrainingRows = None,
    folds: Annotated[int, typer.Option(min=2, help="With --train: members are trained anew on so many.")] = 5,
    search: Annotated[Search, typer.Option(help="What may change.")] = Search.weights,
    metric: MetricOption = Metric.log_loss,
    label: Annotated[str, typer.Option(help="The column that holds the class.")] = "label",
    runs: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is drawn.")] = 0,
    trials: Annotated[int, typer.Option(min=1, help="Structures to try (architecture).")] = 200,
    member_trials: Annotated[int, typer.Option(min=0, help="Members to train beside the given (architecture).")] = 16,
    epochs: Annotated[int, typer.Option(min=1, help="Of a member that no rung stops (architecture), or --train.")] = 30,
    objective: Objectives = None,
    time_s: TimeLimit = None,
    workers: Workers = None,
    resume: Resume = None,
    address: MaybeAddress = None,
    as_json: Json = False,
) -> None:
    """Find a better ensemble on labelled rows that no member was trained on: other weights, or another architecture.

    Weights: half of the rows are solved on, half judge. Architecture: half train members, a quarter is for structures,
    a quarter judges. The result is a spec, deployable as it is; --resume takes up a search that was cut off.

    Example: quorate tune digits.yaml --data validation.parquet --search architecture --trials 100
    """
    from quorate.cluster.cli import tables
    from quorate.cluster.cli.commands import search as sweeping
    from quorate.cluster.cli.commands import tune as tuned
    from quorate.deployments.spec.files import load_spec

    if resume is not None:
        found = sweeping.resume(resume, time_s, address, quiet=as_json)
        return show(found.to_dict(), as_json, sweeping.table(found))
    if spec is None or data is None:
        raise typer.BadParameter("give SPEC and --data, or --resume RUN")
    _check_together(search, metric, train)
    if search is Search.architecture:
        asked = sweeping.Search(
            spec, data, label, runs, seed, trials, member_trials, epochs,
            tuple(objective or ("log_loss", "p95_latency_s")), time_s, workers,
        )  # fmt: skip
        found = sweeping.search(asked, address, quiet=as_json)
        return show(found.to_dict(), as_json, sweeping.table(found))
    where = (load_spec(spec), spec.parent, data, label, runs)
    if metric is not Metric.log_loss:
        decided = tuned.decide(*where, metric.value, seed, address, quiet=as_json)
        return show(_with_spec(decided), as_json, tables.decided(decided))
    result = tuned.tune(*where, seed, address, as_json, train, folds, epochs)
    return show(_with_spec(result), as_json, tables.tuned(result))


def _check_together(search: Search, metric: Metric, train: Path | None) -> None:
    if search is Search.architecture and (train is not None or metric is not Metric.log_loss):
        raise typer.BadParameter("--train and --metric are for --search weights; an architecture has --objective")
    if metric is not Metric.log_loss and train is not None:
        raise typer.BadParameter("--train goes with --metric log_loss")


def _with_spec(result: TuneResult | DecisionResult) -> dict[str, Any]:
    return {**result.to_dict(), "spec": str(result.folder / "spec.yaml"), "search": Search.weights.value}


def compress(
    spec: Spec,
    train: Annotated[Path, typer.Option(help="Labelled rows to train the student on: a table or IDX folder.")],
    data: Annotated[Path, typer.Option(help="Other labelled rows: half solve the weights, half judge.")],
    student: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Family of the student: cnn, rnn, transformer or mlp; no student without it."),
    ] = None,
    width: Annotated[Optional[int], typer.Option(min=1, help="Width of the student.")] = None,  # noqa: UP045
    temperature: Annotated[float, typer.Option(min=0.01, help="Softens teacher and student.")] = 2.0,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Share of the true labels in the loss.")] = 0.3,
    epochs: Annotated[int, typer.Option(min=1, help="Of the student's training.")] = 30,
    tolerance: Annotated[float, typer.Option(min=0, help="Nats per row that fewer bytes may cost.")] = 0.01,
    label: Annotated[str, typer.Option(help="The column that holds the class.")] = "label",
    runs: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    seed: Annotated[int, typer.Option(help="Seed of the split and the training.")] = 0,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make an ensemble cheaper: one distilled student, members in fewer bits, members of one start averaged.

    Example: quorate compress digits.yaml --train train.parquet --data validation.parquet --student mlp
    """
    from quorate.cluster.cli.commands import compress as compressed
    from quorate.deployments.spec.files import load_spec

    result = compressed.compress(
        load_spec(spec), spec.parent, train, data, label, runs, student, width, temperature, alpha, epochs, tolerance,
        seed, address, quiet=as_json,
    )  # fmt: skip
    report = {**result.to_dict(), "spec": str(result.candidates[result.pick].folder / "spec.yaml")}
    show(report, as_json, compressed.table(result))


def promote(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", show_default=False)],
    pick: Annotated[Optional[int], typer.Option(help="Of a sweep's Pareto set; the best when left out.")] = None,  # noqa: UP045
    canary: Annotated[Optional[str], typer.Option(help="Share of the requests it gets first, such as 10%.")] = None,  # noqa: UP045
    canary_seconds: Annotated[float, typer.Option(min=1.0, help="How long the canary is watched.")] = 30.0,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make what a run found the live revision, once it answers as the run did; quorate rollback goes back.

    Example: quorate promote runs/digits-20261123-120000 --canary 10%
    """
    from quorate.cluster.cli import tables
    from quorate.cluster.cli.commands import running

    share = None if canary is None else _share(canary)
    done = running.promote(run, pick, share, canary_seconds, address, lambda step: None if as_json else _say(step))
    show(done.to_dict(), as_json, tables.promoted(done))


def _share(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no share; write 10% or 0.1", param_hint="--canary") from None


def _say(step: str) -> None:
    typer.echo(step, err=True)
