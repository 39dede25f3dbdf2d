"""Labelled rows from files and frames, as the spec's datatypes; labels are matched with class names."""

# N rows

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.column import Column, Place, even, joined
from quorate.deployments.rows.column_names import ColumnNames, check_named, sources_of
from quorate.deployments.rows.opening import RowsLike, open_rows
from quorate.deployments.rows.reading import Wanted, as_input, check_alike
from quorate.deployments.rows.tables.table import Table
from quorate.deployments.rows.written import typed, words_of
from quorate.deployments.spec.schema import TensorSpec
from quorate.tuning.data.class_names import are_places
from quorate.tuning.data.labelled import Labelled, match_labels, true_values
from quorate.tuning.data.labelled_outputs import LabelledOutputs, OutputLabels
from quorate.tuning.data.side_columns import side_column, weights_of
from quorate.tuning.data.spooled_rows import SpooledRows
from quorate.tuning.errors import DataError

MEMORY_BYTES = 1 << 30


def read_table(
    path: RowsLike,
    inputs: Mapping[str, TensorSpec | Sequence[int]],
    classes: Sequence[str],
    label: str = "label",
    memory_bytes: int = MEMORY_BYTES,
    groups: str | None = None,
    times: str | None = None,
    weights: str | None = None,
    columns: ColumnNames | None = None,
) -> Labelled:
    """Read labelled rows.

    Args:
        path: a file or folder of any kind that ``quorate.deployments.rows`` knows, or a data frame.
        inputs: what each request input is; a shape alone takes the table's own datatype.
        classes: class names of the spec; a label is the name of a class, a number that reads as one, or its place among
            them, from 0, where these are words (see ``are_places``). Where there are none it is a value, or a list of
            values; a list of 0 and 1 says which classes hold.
        label: name of the label column.
        memory_bytes: an input with more than this is written into a file without a name and mapped from there,
            whatever memory there is; text is always held in memory.
        groups, times, weights: names of the columns by which rows belong together, are ordered and count, or None.
        columns: of inputs that are called otherwise in the table.

    Raises:
        DataError: a column is missing, a row is not what the spec says, or a label is no class.
    """
    arrays, others, source = _read(path, inputs, [label], (groups, times, weights), columns, memory_bytes)
    found, numbered = _labels(others[label], classes, source)
    return Labelled(arrays, found, tuple(classes), *_side(source, others, groups, times, weights), numbered)


def read_outputs(
    path: RowsLike,
    inputs: Mapping[str, TensorSpec],
    classes: Mapping[str, Sequence[str]],
    labels: Mapping[str, str],
    memory_bytes: int = MEMORY_BYTES,
    groups: str | None = None,
    times: str | None = None,
    weights: str | None = None,
    columns: ColumnNames | None = None,
) -> LabelledOutputs:
    """Read rows with labels of several outputs; a row may have none of some, and none of no output.

    Args:
        path, inputs, memory_bytes, groups, times, weights, columns: as of ``read_table``.
        classes: of each output; none for values.
        labels: the column of each output's labels.

    Raises:
        DataError: as ``read_table``; or no row has a label of an output.
    """
    arrays, others, source = _read(
        path, inputs, list(dict.fromkeys(labels.values())), (groups, times, weights), columns, memory_bytes
    )
    given = {}
    for output, column in labels.items():
        rows = np.flatnonzero(_given(others[column], classes[output]))
        if not len(rows):
            found = f"column {column!r} has no label in any row"
            raise DataError(source, found, f"name the labels of {output!r}")
        found_labels, numbered = _labels(_some(others[column], rows), classes[output], source)
        given[output] = OutputLabels(found_labels, rows, numbered)
    named = {output: tuple(of) for output, of in classes.items()}
    return LabelledOutputs(arrays, given, named, *_side(source, others, groups, times, weights))


def _read(
    path: RowsLike, inputs: Mapping[str, TensorSpec | Sequence[int]], labels: Sequence[str],
    beside: Sequence[str | None], columns: ColumnNames | None, memory_bytes: int,
) -> tuple[dict[str, NDArray[Any]], dict[str, Column], str]:  # fmt: skip
    """Inputs, the other columns, and what the rows are called."""
    wanted = {name: _wanted(one) for name, one in inputs.items()}
    named = [*labels, *(name for name in beside if name is not None)]
    with reading():
        table = open_rows(path)
        sources = sources_of(table, wanted, columns)
        check_named(table, named)
        return (*read_parts(table, wanted, sources, named, memory_bytes), table.source)


def _side(
    source: str, others: Mapping[str, Column], groups: str | None, times: str | None, weights: str | None
) -> tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[np.float64] | None]:
    """What rows belong together by, are ordered by, and count."""
    named = [name for name in (groups, times, weights) if name is not None]
    place, plain = Path(source), {name: typed(others[name]).array() for name in named}
    return (
        None if groups is None else side_column(place, groups, plain),
        None if times is None else side_column(place, times, plain),
        None if weights is None else weights_of(place, weights, plain),
    )


def _given(column: Column, classes: Sequence[str]) -> NDArray[np.bool_]:
    """(N,) which rows have a label: not null or NaN, and in a file without types no empty field or NA that is no
    class.
    """
    absent = np.zeros(len(column.values), bool) if column.missing is None else column.missing.copy()
    if column.written:
        words, blank = words_of(column)
        absent |= blank & ~np.isin(words.astype(str), list(classes))
    elif column.values.dtype.kind == "f":
        absent |= np.isnan(column.values)
    return np.asarray(~absent.reshape(column.rows, -1).all(axis=1))


def _some(column: Column, rows: NDArray[np.intp]) -> Column:
    """These rows of a column."""
    leaves = np.arange(len(column.values)).reshape(column.rows, -1)[rows].reshape(-1)
    missing = None if column.missing is None else column.missing[leaves]
    return replace(column, values=column.values[leaves], rows=len(rows), missing=missing)


def read_columns(path: RowsLike, text: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """All columns of a table, (N, ...) each.

    Args:
        path: as of ``read_table``.
        text: columns of a file without types that stay as they are written: 010 is no 10.

    Raises:
        DataError: it cannot be read, or has no row.
    """
    with reading():
        table = open_rows(path)
        found = _joined(table, list(table.batches(table.names)))
    if not found:
        raise DataError(table.source, "no rows", "give hundreds")
    return {name: (column if name in text else typed(column)).array() for name, column in found.items()}


@contextmanager
def reading() -> Iterator[None]:
    """What is wrong with rows is an error of the data here.

    Raises:
        DataError: for a RowsError.
    """
    try:
        yield
    except RowsError as error:
        raise DataError(error.source, error.found, error.fix) from None


def _wanted(one: TensorSpec | Sequence[int]) -> Wanted:
    return Wanted(one.datatype, one.shape) if isinstance(one, TensorSpec) else Wanted(None, tuple(one))


def read_parts(
    table: Table, wanted: Mapping[str, Wanted], sources: Mapping[str, tuple[str, ...]], beside: Sequence[str],
    memory_bytes: int,
) -> tuple[dict[str, NDArray[Any]], dict[str, Column]]:  # fmt: skip
    """The inputs, and the columns beside them.

    Raises:
        RowsError: they cannot be read, or there is no row.
    """
    spools = {name: SpooledRows(memory_bytes) for name in wanted}
    first: dict[str, NDArray[Any]] = {}
    others: list[dict[str, Column]] = []
    start = 0
    names = dict.fromkeys([*(one for part in sources.values() for one in part), *beside])
    for batch in table.batches(tuple(names)):
        others.append({name: even(Place(table.source, name, start), batch[name]) for name in beside})
        for name, one in wanted.items():
            places = [Place(table.source, column, start) for column in sources[name]]
            part = as_input([batch[column] for column in sources[name]], one, places)
            check_alike(places[0], one, first.setdefault(name, part[:0]), part)
            spools[name].append(part)
        start += next(iter(batch.values())).rows
    if not start:
        raise RowsError(table.source, "no rows", "give hundreds")
    return {name: spool.array() for name, spool in spools.items()}, _joined(table, others)


def _joined(table: Table, parts: Sequence[Mapping[str, Column]]) -> dict[str, Column]:
    names = parts[0] if parts else ()
    return {name: joined(Place(table.source, name), [part[name] for part in parts]) for name in names}


def _labels(column: Column, classes: Sequence[str], source: str) -> tuple[NDArray[Any], bool]:
    """Indices of classes, or true values where there are none or each row has a list; and whether indices are given."""
    listed = bool(column.sizes)
    if classes and not listed:
        labels = column.array()
        numbered = are_places(dict.fromkeys(labels.tolist()), classes)
        places = labels.astype(np.float64).astype(np.int64) if numbered else match_labels(labels, classes, source)
        return places, numbered
    return true_values(typed(column).array(), source), False
