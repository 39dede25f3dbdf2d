"""Labelled rows from what a user has, and how they are divided between solving and judging."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.ensemble import EnsembleSpec

if TYPE_CHECKING:
    from quorate.tuning.data.labelled import Labelled

    Rows = str | Path | Labelled


def read_rows(
    spec: EnsembleSpec,
    data: Rows,
    label: str,
    *,
    groups: str | None = None,
    time: str | None = None,
    weight: str | None = None,
) -> Labelled:
    """The labelled rows of a table, or the test file of a folder of IDX files; rows in memory stay as they are.

    Args:
        label, groups, time, weight: names of the table's columns.

    Raises:
        DataError, SpecError: they cannot be read, or do not fit the spec.
    """
    return _read(spec, data, label, "test", groups, time, weight)


def read_training_rows(spec: EnsembleSpec, data: Rows, label: str) -> Labelled:
    """The same, but of a folder of IDX files the training file."""
    return _read(spec, data, label, "train")


def read_tokens(spec: EnsembleSpec, data: Rows, label: str, weight: str | None = None) -> Labelled:
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
    shapes = {name: tensor.shape for name, tensor in spec.inputs.items() if name != spec.lengths}
    whole = [name for name, shape in shapes.items() if shape[:1] != (-1,)]
    if whole:
        found = f"its shape is {list(shapes[whole[0]])}"
        raise TuningError(f"inputs.{whole[0]}", found, "tune taggers whose inputs begin with a free dimension, -1")
    rows = {name: shape[1:] for name, shape in shapes.items()}
    return read_table(Path(data), rows, spec.classes or (), label, groups=SEQUENCE, weights=weight)


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
    groups: str | None = None, time: str | None = None, weight: str | None = None,
) -> Labelled:  # fmt: skip
    from quorate.tuning.data.idx_files import idx_images
    from quorate.tuning.data.labelled import Labelled
    from quorate.tuning.data.tables import read_table
    from quorate.tuning.predictions.run_member import predicts_values

    if isinstance(data, Labelled):
        return data
    path = Path(data)
    if path.is_dir():  # of these the members may have seen the training file
        splits = idx_images(path, full=True)
        return splits.train if split == "train" else splits.test
    if spec.classes is None and not predicts_values(spec):
        raise SpecError("classes", "the ensemble has none, so labels cannot be matched", "name the classes in the spec")
    return read_table(
        path, {name: tensor.shape for name, tensor in spec.inputs.items()}, spec.classes or (), label,
        groups=groups, times=time, weights=weight,
    )  # fmt: skip
