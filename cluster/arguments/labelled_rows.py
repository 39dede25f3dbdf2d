"""Labelled rows from what a user has, and how they are divided between solving and judging."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quorate.deployments.errors import SpecError
from quorate.deployments.rows.column_names import ColumnNames
from quorate.deployments.rows.opening import RowsLike
from quorate.deployments.spec.ensemble import EnsembleSpec

if TYPE_CHECKING:
    from quorate.tuning.data.labelled import Labelled

    Rows = RowsLike | Labelled


def read_rows(
    spec: EnsembleSpec,
    data: Rows,
    label: str,
    *,
    groups: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    columns: ColumnNames | None = None,
) -> Labelled:
    """The labelled rows of a table, of a folder of IDX files the test file, or rows in memory: as the spec's datatypes.

    Args:
        label, groups, time, weight: names of the table's columns.
        columns: of inputs that the table calls otherwise.

    Raises:
        DataError, SpecError: they cannot be read, or do not fit the spec.
    """
    return _read(spec, data, label, "test", groups, time, weight, columns)


def read_training_rows(spec: EnsembleSpec, data: Rows, label: str, columns: ColumnNames | None = None) -> Labelled:
    """The same, but of a folder of IDX files the training file."""
    return _read(spec, data, label, "train", columns=columns)


def read_tokens(
    spec: EnsembleSpec, data: Rows, label: str, weight: str | None = None, columns: ColumnNames | None = None
) -> Labelled:
    """Labelled tokens of a table: one a row, in the order of their sentences, which the column ``sequence`` names.

    Args:
        data: a table, or rows in memory, whose groups are the sentences.
        label, weight: names of the table's columns.

    Raises:
        DataError, TuningError: they cannot be read, or the spec has inputs that are no row a token.
    """
    from quorate.tuning.data.labelled import Labelled
    from quorate.tuning.data.predictions_file import SEQUENCE
    from quorate.tuning.data.tables import read_table
    from quorate.tuning.errors import TuningError

    if isinstance(data, Labelled):
        return data
    inputs = {name: tensor for name, tensor in spec.inputs.items() if name != spec.lengths}
    whole = [name for name, tensor in inputs.items() if tensor.shape[:1] != (-1,)]
    if whole:
        found = f"its shape is {list(inputs[whole[0]].shape)}"
        raise TuningError(f"inputs.{whole[0]}", found, "tune taggers whose inputs begin with a free dimension, -1")
    tokens = {name: tensor.model_copy(update={"shape": tensor.shape[1:]}) for name, tensor in inputs.items()}
    return read_table(data, tokens, spec.classes or (), label, groups=SEQUENCE, weights=weight, columns=columns)


def halves(rows: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """Two halves, see ``quorate.tuning.data.halves``.

    Raises:
        DataError: there are not even two rows.
    """
    from quorate.tuning.data.halves import halves as split

    first, second = split(rows.labels, rows.groups, rows.times, seed)
    return rows.rows(first), rows.rows(second)


def _read(
    spec: EnsembleSpec, data: Rows, label: str, split: str,
    groups: str | None = None, time: str | None = None, weight: str | None = None, columns: ColumnNames | None = None,
) -> Labelled:  # fmt: skip
    from quorate.tuning.data.idx_files import idx_images, is_idx_folder
    from quorate.tuning.data.labelled import Labelled
    from quorate.tuning.data.served_inputs import served_inputs
    from quorate.tuning.data.tables import read_table
    from quorate.tuning.errors import TuningError
    from quorate.tuning.predictions.run_member import predicts_values

    if columns and (isinstance(data, Labelled) or is_idx_folder(data)):
        raise TuningError("columns", "rows that have no columns", "name the inputs of rows as the spec does")
    if isinstance(data, Labelled):
        return replace(data, inputs=served_inputs(data.inputs, spec.inputs))
    if is_idx_folder(data):  # of these the members may have seen the training file
        splits = idx_images(data, full=True)
        rows = splits.train if split == "train" else splits.test
        return replace(rows, inputs=served_inputs(rows.inputs, spec.inputs))
    if spec.classes is None and not predicts_values(spec):
        raise SpecError("classes", "the ensemble has none, so labels cannot be matched", "name the classes in the spec")
    return read_table(
        data, spec.inputs, spec.classes or (), label, groups=groups, times=time, weights=weight, columns=columns
    )
