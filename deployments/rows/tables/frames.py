"""Data frames: pandas, polars, Hugging Face's data sets, and whatever else gives its columns to Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.column import Column, Place
from quorate.deployments.rows.nested_lists import column_of
from quorate.deployments.rows.tables.table import BATCH_ROWS, Table
from quorate.fusion.extras import require


class PandasTable:
    """A data frame of pandas, whose columns may also hold lists and arrays."""

    def __init__(self, frame: Any):
        self.source, self._frame = "the data frame", frame
        self.names = tuple(map(str, frame.columns))

    def batches(self, names: Sequence[str]) -> Iterator[dict[str, Column]]:
        for at in range(0, len(self._frame), BATCH_ROWS):
            part = self._frame.iloc[at : at + BATCH_ROWS]
            yield {name: self._column(part, name, at) for name in names}

    def _column(self, part: Any, name: str, at: int) -> Column:
        series, place = part.iloc[:, self.names.index(name)], Place(self.source, name, at)
        plain = np.asarray(series.array) if isinstance(series.dtype, np.dtype) else None
        if plain is not None and plain.dtype.kind in "biufmMc":
            return Column(plain, (), len(plain), kind=str(plain.dtype))
        return column_of(series.astype(object).tolist(), place)


def is_frame(given: Any) -> bool:
    """Whether rows in memory are a frame of some library, and no mapping of arrays."""
    return hasattr(given, "iloc") or hasattr(given, "__arrow_c_stream__") or _is_hugging_face(given)


def open_frame(given: Any) -> Table:
    """A frame as a table.

    Raises:
        RowsError: its library cannot give it to Arrow.
        MissingExtraError: that needs pyarrow, which is not installed.
    """
    if hasattr(given, "iloc"):
        return PandasTable(given)
    require("arrow", f"reading a {type(given).__name__}")
    import pyarrow as pa

    from quorate.deployments.rows.tables.arrow_files import of_table

    name = f"the {type(given).__name__}"
    try:
        table = given.with_format("arrow")[:] if _is_hugging_face(given) else pa.table(given)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise RowsError(name, f"no table of Arrow ({error})", "give a data frame or a pyarrow.Table") from None
    return of_table(table, name)


def _is_hugging_face(given: Any) -> bool:
    return hasattr(given, "with_format") and hasattr(given, "features")
