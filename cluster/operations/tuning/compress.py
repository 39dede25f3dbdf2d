"""A cheaper ensemble of the same name, and what it loses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from quorate.cluster.arguments.labelled_rows import halves, read_rows, read_training_rows
from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, one_output, spec_and_folder
from quorate.cluster.local.connection import connected_if_named
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.cluster.arguments.labelled_rows import Rows
    from quorate.deployments.rows.column_names import ColumnNames
    from quorate.tuning.workflows.compress import Compression


@naming_spec_lines
def compress(
    spec: SpecLike,
    train: Rows,
    data: Rows,
    *,
    folder: str | Path | None = None,
    student: str | None = None,
    width: int | None = None,
    temperature: float = 2.0,
    alpha: float = 0.3,
    epochs: int = 30,
    tolerance: float = 0.01,
    label: str = "label",
    columns: ColumnNames | None = None,
    runs: str | Path = "runs",
    seed: int = 0,
    address: str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Compression:
    """Distil, quantise and average members; solve on half of ``data`` and judge on the other half.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        train: a table of rows for the student, ``Labelled`` rows, or a folder of IDX files: their training file.
        data: other rows; of a folder of IDX files the test file is read.
        folder: what the spec's paths start from; that of the file, or the current one, when None.
        student: family of the student: cnn, rnn, transformer or mlp; no student when None.
        width: of the student; its family's own when None.
        temperature, alpha, epochs: of the distillation.
        tolerance: nats per row that a smaller ensemble may lose.
        label: the tables' column that holds the class.
        columns: of inputs that the tables call otherwise: ``{"price": "Price"}``.
        runs: where the run's folder is made.
        seed: of the halves and the training.
        address: a Ray cluster to run the members on; this process when None.
        on_step: told what happens next.

    Raises:
        DataError: the rows cannot be read or do not fit the spec.
        TuningError: the spec has members that cannot be tuned, or the student cannot be built.
    """
    require("tune", "compress")
    from quorate.tuning.predictions.run_on_ray import pick_runner
    from quorate.tuning.training.distillation import Distillation
    from quorate.tuning.training.epochs import Training
    from quorate.tuning.workflows import compress as workflow

    found, place = spec_and_folder(spec, folder)
    one_output(found)
    config = None
    if student is not None:
        config = {"family": student} if width is None else {"family": student, "width": width}
    rows = read_training_rows(found, train, label, columns)
    solved_on, judged_on = halves(read_rows(found, data, label, columns=columns), seed)
    how = Distillation(temperature, alpha, Training(epochs=epochs, seed=seed))
    with connected_if_named(address):
        return workflow.compress(
            found, place, rows, solved_on, judged_on, student=config, how=how, tolerance=tolerance, runs=runs,
            run=pick_runner(), on_step=on_step,
        )  # fmt: skip
