from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.cluster.cli.commands.tuning.tune import Metrics, MinGains
from quorate.cluster.cli.options import (
    Columns,
    Json,
    Labels,
    RunAddress,
    Runs,
    Seed,
    Spec,
    as_columns,
    by_output,
    label_of,
    numbers_by_output,
    refuse,
)
from quorate.cluster.cli.tables import progress, show
from quorate.cluster.local.connection import is_jobs_address

Data = Annotated[
    Path | None,
    typer.Option(
        help="Labelled rows, a table or a folder of IDX files: half train, a quarter stops and solves, a quarter "
        "judges; with --train none trains.",
        show_default=False,
    ),
]
TrainingRows = Annotated[Path | None, typer.Option(help="Labelled rows to train on.", show_default=False)]
Unlabelled = Annotated[
    Path | None,
    typer.Option(
        help="Rows without labels: answers are to stay the same when members are left out.", show_default=False
    ),
]
Teacher = Annotated[
    Path | None, typer.Option(metavar="SPEC", help="An ensemble whose answers are learned too.", show_default=False)
]
What = Annotated[
    list[str] | None,
    typer.Option(
        help="heads (feature fusions, members that read members, learned rules), all, or names of members and fusions.",
        show_default="heads",
    ),
]
Groups = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Rows of one group are never on both sides.", show_default=False)
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes of Ray Train; this one without it.", show_default=False),
]
Resume = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Take up a run that was cut off; all else as it was.", show_default=False),
]


def train(
    context: typer.Context, spec: Spec, data: Data = None, train: TrainingRows = None, unlabelled: Unlabelled = None,
    teacher: Teacher = None, what: What = None,
    epochs: Annotated[int, typer.Option(min=1, help="At most; the best is kept.")] = 30,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="The peak; a tenth for members with weights.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(min=0, help="AdamW's.")] = 1e-2,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a lower loss before it stops.")] = 10,
    auxiliary: Annotated[float, typer.Option(min=0, help="What branches' own losses count.")] = 0.3,
    member_dropout: Annotated[float, typer.Option(min=0, max=0.99, help="Rows in which a modality is left out.")] = 0.2,
    consistency: Annotated[float, typer.Option(min=0, help="With --unlabelled: what divergence counts.")] = 1.0,
    temperature: Annotated[float, typer.Option(min=0.01, help="With --teacher: softens answers.")] = 2.0,
    label_share: Annotated[float, typer.Option(min=0, max=1, help="With --teacher: what labels count.")] = 0.3,
    folds: Annotated[int, typer.Option(min=2, help="For a learned rule over members that are trained.")] = 5,
    workers: Workers = None, metric: Metrics = None, min_gain: MinGains = None, label: Labels = None,
    column: Columns = None, groups: Groups = None, runs: Runs = Path("runs"), seed: Seed = 0, resume: Resume = None,
    address: RunAddress = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Train feature fusions, heads and learned rules on frozen members, or the whole graph end to end.

    What comes out is judged on held-out rows beside the ensemble as it was and all that tune would try; the run holds
    what the verdict recommends.

    Example: quorate train scene.yaml --data labelled.parquet --what all --epochs 20
    """
    from quorate.cluster.operations.tuning import train as operation

    if unlabelled is None:
        refuse(context, ["consistency"], "--unlabelled")
    if teacher is None:
        refuse(context, ["temperature", "label_share"], "--teacher")
    if workers is None and not is_jobs_address(address):
        refuse(context, ["address"], "--workers")
    if data is None:
        refuse(context, ["metric", "min_gain", "groups"], "--data")
    named = "heads" if not what else what[0] if what in (["heads"], ["all"]) else what
    rows: dict[str, Any] = {"train": train, "unlabelled": unlabelled, "groups": groups, **label_of(label)}
    rows |= {"teacher": teacher, "what": named, "columns": as_columns(column)}
    rows |= {"metric": by_output(metric, "--metric"), "min_gain": numbers_by_output(min_gain, "--min-gain") or 0.0}
    with progress("training", as_json) as tell:
        result = operation.train(
            spec, data, **rows, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
            weight_decay=weight_decay, patience=patience, auxiliary=auxiliary, member_dropout=member_dropout,
            consistency=consistency, temperature=temperature, label_share=label_share, folds=folds, workers=workers,
            runs=runs, seed=seed, address=address, resume=resume, on_step=tell,
        )  # fmt: skip
    show(result, {**result.to_dict(), "spec": str(result.folder / "spec.yaml")}, as_json)
