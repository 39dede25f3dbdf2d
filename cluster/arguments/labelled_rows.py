"""Labelled rows from what a user has, and how they are divided between solving and judging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from quorate.cluster.arguments.by_output import by_output
from quorate.deployments.errors import SpecError
from quorate.deployments.rows.column_names import ColumnNames
from quorate.deployments.rows.opening import RowsLike
from quorate.deployments.spec.ensemble import EnsembleSpec

if TYPE_CHECKING:
    from quorate.tuning.data.labelled import Labelled
    from quorate.tuning.data.labelled_outputs import LabelledOutputs

    Rows = RowsLike | Labelled
    R = TypeVar("R", Labelled, LabelledOutputs)

LABEL = "label"  # what the column of labels is called, unless something else is said


def read_rows(
    spec: EnsembleSpec,
    data: Rows,
    label: str,
    *,
    groups: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    columns: ColumnNames | None = None,
    uneven: bool = False,
) -> Labelled:
    """The labelled rows of a table, of a folder of IDX files the test file, or rows in memory: as the spec's datatypes.

    Args:
        label, groups, time, weight: names of the table's columns.
        columns: of inputs that the table calls otherwise.
        uneven: rows of an input of free sizes may have other ones.

    Raises:
        DataError, SpecError: they cannot be read, or do not fit the spec.
    """
    found = _read(spec, data, label, "test", groups, time, weight, columns)
    return found if uneven else _of_one_length(found)


def read_output_rows(
    spec: EnsembleSpec,
    data: Rows | LabelledOutputs,
    label: str | Mapping[str, str],
    *,
    groups: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    columns: ColumnNames | None = None,
    uneven: bool = False,
) -> LabelledOutputs:
    """Rows with the labels of several outputs: each in a column that is called as the output is, or as ``label`` says.

    Args:
        data: a table, or such rows in memory.
        label: columns by output; what is no mapping says nothing here.
        groups, time, weight, columns, uneven: as of ``read_rows``.

    Raises:
        DataError, SpecError, TuningError: they cannot be read, or do not fit the spec.
    """
    from quorate.tuning.data.labelled import Labelled
    from quorate.tuning.data.labelled_outputs import LabelledOutputs
    from quorate.tuning.data.served_inputs import served_inputs
    from quorate.tuning.data.tables import read_outputs
    from quorate.tuning.errors import TuningError

    if isinstance(data, LabelledOutputs):
        for output in spec.outputs:
            if output not in data.labels:
                found = f"labels of {', '.join(data.labels)}, none of {output}"
                raise TuningError("data", found, "give labels of each output of the spec")
        served = replace(data, inputs=served_inputs(data.inputs, spec.inputs))
        return served if uneven else _of_one_length(served)
    if isinstance(data, Labelled):
        fix = "give a table, or LabelledOutputs: labels by output"
        raise TuningError("data", "rows that have labels of one output", fix)
    if isinstance(label, str) and label != LABEL and "=" not in label:
        fix = f"write --label {spec.outputs[0]}={label}, in Python label={{'{spec.outputs[0]}': '{label}'}}"
        raise TuningError("label", f"'{label}' for {len(spec.outputs)} outputs", fix)
    said = {} if label == LABEL else by_output("label", label, spec.outputs)
    named = {output: said.get(output, output) for output in spec.outputs}
    for output in spec.outputs:
        _check_matched(spec.view(output), spec.field_of(output))
    classes = {output: spec.view(output).classes or () for output in spec.outputs}
    rows = read_outputs(
        data, spec.inputs, classes, named, groups=groups, times=time, weights=weight, columns=columns
    )  # fmt: skip
    return rows if uneven else _of_one_length(rows)


def of_one_output(data: Rows | LabelledOutputs) -> Rows:
    """The rows themselves.

    Raises:
        TuningError: they have labels of several outputs.
    """
    from quorate.tuning.data.labelled_outputs import LabelledOutputs
    from quorate.tuning.errors import TuningError

    if isinstance(data, LabelledOutputs):
        fix = "give rows with labels of the spec's one output"
        raise TuningError("data", f"labels of {', '.join(data.labels)}", fix)
    return data


def read_training_rows(spec: EnsembleSpec, data: Rows, label: str, columns: ColumnNames | None = None) -> Labelled:
    """The same, but of a folder of IDX files the training file."""
    return _of_one_length(_read(spec, data, label, "train", columns=columns))


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

    if columns and (isinstance(data, Labelled) or is_idx_folder(data)):
        raise TuningError("columns", "rows that have no columns", "name the inputs of rows as the spec does")
    if isinstance(data, Labelled):
        return replace(data, inputs=served_inputs(data.inputs, spec.inputs))
    if is_idx_folder(data):  # of these the members may have seen the training file
        splits = idx_images(data, full=True)
        rows = splits.train if split == "train" else splits.test
        return replace(rows, inputs=served_inputs(rows.inputs, spec.inputs))
    _check_matched(spec, "")
    return read_table(
        data, spec.inputs, spec.classes or (), label, groups=groups, times=time, weights=weight, columns=columns
    )


def _of_one_length(rows: R) -> R:
    """Rows for what trains on them, whose batches are tensors.

    Raises:
        DataError: they have other lengths.
    """
    from quorate.deployments.rows.uneven import is_uneven
    from quorate.tuning.errors import DataError

    for name, array in rows.inputs.items():
        if is_uneven(array):
            fix = "pad them in the table, or make the members elsewhere: tune and serve take rows of any length"
            raise DataError(f"input '{name}'", "rows of several lengths, and training reads one", fix)
    return rows


def _check_matched(spec: EnsembleSpec, field: str) -> None:
    """Refuse an output without classes whose members give no values."""
    from quorate.tuning.predictions.run_member import predicts_values

    if spec.classes is None and not predicts_values(spec):
        found, fix = "the ensemble has none, so labels cannot be matched", "name the classes in the spec"
        raise SpecError(f"{field}.classes" if field else "classes", found, fix)
