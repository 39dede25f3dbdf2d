"""Rows as the inputs of a model: each as the spec's datatype and shape."""

# R rows

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.column import UNEVEN_FIX, Array, Column, Place
from quorate.deployments.rows.column_names import ColumnNames, sources_of
from quorate.deployments.rows.opening import RowsLike, open_rows
from quorate.deployments.rows.shapes import shaped, shaped_rows
from quorate.deployments.rows.sounds import is_wav, samples_of
from quorate.deployments.rows.tables.table import UNNAMED, Table
from quorate.deployments.rows.uneven import concatenated
from quorate.deployments.rows.values import fitted


@dataclass(frozen=True)
class Wanted:
    """What a model reads as one input: its datatype, and the shape of a row, -1 for a free size.

    A datatype or shape of None is the source's own.
    """

    datatype: str | None
    shape: tuple[int, ...] | None


def read_inputs(given: RowsLike, inputs: Mapping[str, Wanted], columns: ColumnNames | None = None) -> dict[str, Array]:
    """All rows of a source.

    Args:
        given: a path, a frame, or arrays by name, see ``open_rows``.
        inputs: what the model reads, by name.
        columns: of inputs that are called otherwise there.

    Returns:
        (R, *shape) each; of an input of free sizes, where rows have other ones, (R,) arrays (see ``uneven``).

    Raises:
        RowsError: they cannot be read, or do not hold the inputs.
    """
    table = open_rows(given)
    parts = list(input_batches(table, inputs, columns))
    if not parts:
        raise RowsError(table.source, "no rows", "give at least one")
    start = 0
    for part in parts:
        for name, array in part.items():
            check_alike(Place(table.source, name, start), inputs[name], parts[0][name], array)
        start += len(next(iter(part.values())))
    return {name: concatenated([part[name] for part in parts]) for name in inputs}


def check_alike(place: Place, wanted: Wanted, first: Array, part: Array) -> None:
    """Refuse a batch of an input whose shape or type is the source's own, and another than that of the first batch.

    Raises:
        RowsError: it is.
    """
    if wanted.shape is None and part.shape[1:] != first.shape[1:]:
        found = f"shape {list(part.shape[1:])}, and {list(first.shape[1:])} before"
        raise place.error(0, found, UNEVEN_FIX)
    if wanted.datatype is None and part.dtype != first.dtype:
        raise place.error(0, f"{part.dtype}, and {first.dtype} before", "say in the spec which datatype is meant")


def input_batches(
    table: Table, inputs: Mapping[str, Wanted], columns: ColumnNames | None = None
) -> Iterator[dict[str, Array]]:
    """The same, some rows at a time."""
    sources = sources_of(table, inputs, columns)
    start = 0
    for batch in table.batches(tuple(dict.fromkeys(name for names in sources.values() for name in names))):
        found = {}
        for name, wanted in inputs.items():
            places = [Place(table.source, name if one == UNNAMED else one, start) for one in sources[name]]
            found[name] = as_input([batch[one] for one in sources[name]], wanted, places)
        yield found
        start += next(iter(batch.values())).rows


def as_input(parts: Sequence[Column], wanted: Wanted, places: Sequence[Place]) -> Array:
    """(R, *shape) of a column, or of several with a number each; (R,) arrays where rows have other sizes, free ones.

    Raises:
        RowsError: values or shapes are not what the model reads.
    """
    if len(parts) == 1:
        column = parts[0]
        if wanted.datatype not in ("BYTES", None) and len(column.values) and is_wav(column.values[0]):
            column = samples_of(column, places[0])
        leaves = fitted(column, wanted.datatype, places[0])
        if column.shapes is not None:
            return shaped_rows(leaves, column, wanted.shape, places[0])
        return np.ascontiguousarray(shaped(leaves, column.rows, column.sizes, wanted.shape, places[0]))
    arrays = []
    for column, place in zip(parts, places, strict=True):
        if column.sizes:
            raise place.whole(f"has rows of shape {list(column.sizes)}", "give one column of lists, or plain numbers")
        arrays.append(fitted(column, wanted.datatype, place))
    found = np.stack(arrays, axis=1)
    return np.ascontiguousarray(shaped(found.reshape(-1), len(found), found.shape[1:], wanted.shape, places[0]))
