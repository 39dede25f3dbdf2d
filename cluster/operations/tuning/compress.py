"""A cheaper ensemble of the same name, and what it loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from quorate.cluster.arguments.by_output import of_the_only
from quorate.cluster.arguments.labelled_rows import (
    LABEL,
    halves,
    of_one_output,
    read_output_rows,
    read_rows,
    read_training_rows,
)
from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.cluster.jobs.through_jobs import through_jobs
from quorate.cluster.local.connection import connected_if_named
from quorate.fusion.extras import require

if TYPE_CHECKING:
    from quorate.cluster.arguments.labelled_rows import Rows
    from quorate.cluster.jobs.job_run import JobRun
    from quorate.deployments.rows.column_names import ColumnNames
    from quorate.deployments.spec.ensemble import EnsembleSpec
    from quorate.tuning.data.labelled_outputs import LabelledOutputs
    from quorate.tuning.predictions.run_member import Inputs
    from quorate.tuning.workflows.compress import Compression
    from quorate.tuning.workflows.outputs.compress_outputs import CompressionRows, OutputsCompression


@overload
def compress(
    spec: SpecLike, train: Rows, data: Rows, *, folder: str | Path | None = ..., student: str | None = ...,
    width: int | None = ..., temperature: float = ..., alpha: float = ..., epochs: int = ..., tolerance: float = ...,
    label: str = ..., columns: ColumnNames | None = ..., runs: str | Path = ..., seed: int = ...,
    address: None = ..., on_step: Callable[[str], None] | None = ...,
) -> Compression: ...  # fmt: skip


@overload
def compress(
    spec: SpecLike, train: Rows | LabelledOutputs, data: Rows | LabelledOutputs, *, label: Mapping[str, str],
    folder: str | Path | None = ..., student: str | None = ..., width: int | None = ..., temperature: float = ...,
    alpha: float = ..., epochs: int = ..., tolerance: float = ..., columns: ColumnNames | None = ...,
    runs: str | Path = ..., seed: int = ..., address: None = ..., on_step: Callable[[str], None] | None = ...,
) -> OutputsCompression: ...  # fmt: skip


@overload
def compress(
    spec: SpecLike, train: Rows | LabelledOutputs, data: Rows | LabelledOutputs, *, address: str, **asked: Any
) -> Compression | OutputsCompression | JobRun: ...  # fmt: skip


@naming_spec_lines
@through_jobs
def compress(
    spec: SpecLike, train: Rows | LabelledOutputs, data: Rows | LabelledOutputs, *, folder: str | Path | None = None,
    student: str | None = None, width: int | None = None, temperature: float = 2.0, alpha: float = 0.3,
    epochs: int = 30, tolerance: float = 0.01, label: str | Mapping[str, str] = LABEL,
    columns: ColumnNames | None = None, runs: str | Path = "runs", seed: int = 0, address: str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Compression | OutputsCompression:  # fmt: skip
    """Distil, quantise and average members; solve on half of ``data`` and judge on the other half.

    Of several outputs each whose members no other reads, and give classes; others stay as they are.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        train: a table of rows for the student, ``Labelled`` rows, or a folder of IDX files: their training file.
        data: other rows; of a folder of IDX files the test file is read.
        folder: what the spec's paths start from; that of the file, or the current one, when None.
        student: family of the student: cnn, rnn, transformer or mlp; no student when None.
        width: of the student; its family's own when None.
        temperature, alpha, epochs: of the distillation.
        tolerance: nats per row that a smaller ensemble may lose.
        label: the tables' column that holds the class, as of ``tune``.
        columns: of inputs that the tables call otherwise: ``{"price": "Price"}``.
        runs: where the run's folder is made.
        seed: of the halves and the training.
        address: a Ray cluster to run the members on; this process when None. Of a Jobs address all of it runs there,
            and what is returned is a ``JobRun``.
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
    config = None
    if student is not None:
        config = {"family": student} if width is None else {"family": student, "width": width}
    how = Distillation(temperature, alpha, Training(epochs=epochs, seed=seed))
    asked: dict[str, Any] = {"student": config, "how": how, "tolerance": tolerance, "runs": runs, "on_step": on_step}
    if found.outputs:
        parts, shown = _output_rows(found, train, data, label, columns, seed)
        with connected_if_named(address):
            from quorate.tuning.workflows.outputs.compress_outputs import compress_outputs

            return compress_outputs(found, place, parts, shown, run=pick_runner(), **asked)
    column = of_the_only("label", label)
    rows = read_training_rows(found, of_one_output(train), column, columns)
    solved_on, judged_on = halves(read_rows(found, of_one_output(data), column, columns=columns), seed)
    with connected_if_named(address):
        return workflow.compress(found, place, rows, solved_on, judged_on, run=pick_runner(), **asked)


def _output_rows(
    spec: EnsembleSpec, train: Rows | LabelledOutputs, data: Rows | LabelledOutputs, label: str | Mapping[str, str],
    columns: ColumnNames | None, seed: int,
) -> tuple[dict[str, CompressionRows], Inputs]:  # fmt: skip
    """Of each output the rows that have a label of it, halved as if there were no other; and inputs of all rows."""
    from quorate.tuning.runs.one_output import alone
    from quorate.tuning.workflows.outputs.compress_outputs import CompressionRows

    seen = read_output_rows(spec, train, label, columns=columns)
    rest = read_output_rows(spec, data, label, columns=columns)
    found = {}
    for output in spec.outputs:
        read = tuple(alone(spec, output).inputs)
        found[output] = CompressionRows(seen.of(output, read), *halves(rest.of(output, read), seed))
    return found, rest.inputs
