from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cluster.cli.options import (
    Columns,
    Json,
    Labels,
    RunAddress,
    Runs,
    Seed,
    Spec,
    as_columns,
    label_of,
    refuse,
)
from quorate.cluster.cli.tables import progress, show


def compress(
    context: typer.Context,
    spec: Spec,
    train: Annotated[Path, typer.Option(help="Labelled rows to train the student on: a table or IDX folder.")],
    data: Annotated[Path, typer.Option(help="Other labelled rows: half solve the weights, half judge.")],
    student: Annotated[
        str | None,
        typer.Option(help="Family of the student: cnn, rnn, transformer or mlp; no student without it."),
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Width of the student.")] = None,
    temperature: Annotated[float, typer.Option(min=0.01, help="Softens teacher and student.")] = 2.0,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Share of the true labels in the loss.")] = 0.3,
    epochs: Annotated[int, typer.Option(min=1, help="Of the student's training.")] = 30,
    tolerance: Annotated[float, typer.Option(min=0, help="Nats per row that fewer bytes may cost.")] = 0.01,
    label: Labels = None,
    column: Columns = None,
    runs: Runs = Path("runs"),
    seed: Seed = 0,
    address: RunAddress = None,
    as_json: Json = False,
) -> None:
    """Make an ensemble cheaper: one distilled student, members in fewer bits, members of one start averaged.

    Example: quorate compress digits.yaml --train train.parquet --data validation.parquet --student mlp
    """
    from quorate.cluster.operations.tuning import compress as operation

    if student is None:
        refuse(context, ["width", "temperature", "alpha", "epochs"], "--student")
    with progress("running members", as_json) as tell:
        result = operation.compress(
            spec, train, data, student=student, width=width, temperature=temperature, alpha=alpha, epochs=epochs,
            tolerance=tolerance, columns=as_columns(column), runs=runs, seed=seed, address=address, on_step=tell,
            **label_of(label),
        )  # fmt: skip
    show(result, {**result.to_dict(), "spec": str(result.deployable)}, as_json)
