"""Many rows, or rows that come one by one, as batches of a few."""

# B rows

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from quorate.deployments.errors import RequestError
from quorate.deployments.rows.uneven import spans

Rows = Any  # a DataFrame, arrays by input, or an iterable of rows, each a mapping or the value of the only input


def row_batches(rows: Rows, size: int, inputs: Iterable[str]) -> Iterator[Any]:
    """Batches of at most ``size`` rows of one shape, in order, each as ``Client.infer`` takes its inputs; drawn only as
    they are asked for.

    Args:
        rows: a DataFrame, arrays by input, or an iterable of single rows.
        inputs: what the model reads.

    Raises:
        RequestError: arrays have other numbers of rows, or a row lacks an input.
    """
    if size < 1:
        raise RequestError(f"{size} rows in a request; give at least 1")
    names = tuple(inputs)
    for batch in _batches(rows, size, names):
        columns = {name: batch[name] for name in names if name in batch and _may_differ(batch[name])}
        if not columns:
            yield batch
            continue
        for start, end in spans(list(zip(*(map(_shape, column) for column in columns.values()), strict=True))):
            yield _slice(batch, start, end)


def _batches(rows: Rows, size: int, names: tuple[str, ...]) -> Iterator[Any]:
    if hasattr(rows, "columns"):
        yield from (rows[at : at + size] for at in range(0, len(rows), size))
    elif isinstance(rows, Mapping):
        yield from (_slice(rows, at, at + size) for at in range(0, _count(rows), size))
    elif isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
        singles = iter(rows)
        while batch := [_named(row, names) for row in islice(singles, size)]:
            yield {name: [row[name] for row in batch] for name in names}
    else:
        raise RequestError(f"rows are a {type(rows).__name__}; give a DataFrame, arrays by input, or rows one by one")


def _slice(batch: Any, start: int, end: int) -> Any:
    if hasattr(batch, "columns"):
        return batch[start:end]
    return {name: _part(values, start, end) for name, values in batch.items()}


def _may_differ(values: Any) -> bool:
    """Whether rows may have other shapes: they are no tensor."""
    kind = getattr(values, "dtype", None)
    return not hasattr(values, "detach") and not (isinstance(kind, np.dtype) and kind.kind != "O")


def _shape(value: Any) -> tuple[int, ...] | None:
    """Of a row; None of what is no row, which is told where it is asked about."""
    try:
        return () if isinstance(value, str | bytes) else np.shape(value)
    except ValueError:
        return None


def _count(rows: Mapping[str, Any]) -> int:
    counts = {name: len(values) for name, values in rows.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise RequestError(f"inputs have other numbers of rows ({found}); give each the same")
    return next(iter(counts.values()), 0)


def _part(values: Any, start: int, end: int) -> Any:
    return values.iloc[start:end] if hasattr(values, "iloc") else values[start:end]


def _named(row: Any, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        if len(names) != 1:
            raise RequestError(f"a row is a {type(row).__name__}; give a mapping of {', '.join(names)}")
        return {names[0]: row}
    for name in names:
        if name not in row:
            raise RequestError(f"a row has no '{name}'; the model reads {', '.join(names)}")
    return row
