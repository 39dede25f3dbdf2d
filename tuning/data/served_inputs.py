"""Rows in memory as members get them when they are served: each input as the spec's datatype and shape."""

# N rows

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.rows.column import Place
from quorate.deployments.rows.column_names import sources_of
from quorate.deployments.rows.reading import Wanted, as_input
from quorate.deployments.rows.shapes import fits
from quorate.deployments.rows.tables.numpy_files import ArraysTable, column_of
from quorate.deployments.rows.uneven import is_uneven
from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.datatypes import numpy_dtype
from quorate.tuning.data.tables import reading


def served_inputs(inputs: Mapping[str, NDArray[Any]], described: Mapping[str, TensorSpec]) -> dict[str, NDArray[Any]]:
    """Those inputs that are described; arrays that are so already stay where they are.

    Args:
        inputs: (N, ...) by name.
        described: the spec's inputs.

    Raises:
        DataError: an input is missing, or values are none of its datatype.
    """
    with reading():
        sources_of(ArraysTable("the rows", inputs), described)
        return {name: _served(name, inputs[name], tensor) for name, tensor in described.items()}


def _served(name: str, array: NDArray[Any], tensor: TensorSpec) -> NDArray[Any]:
    dtype = numpy_dtype(tensor.datatype)
    if tensor.datatype != "BYTES" and array.dtype == dtype and array.shape[1:] == tensor.shape:
        return array  # it may be mapped from a file, and larger than memory
    if is_uneven(array) and all(row.dtype == dtype and fits(row.shape, tensor.shape) for row in array):
        return array
    place = Place("the rows", name)
    return as_input([column_of(array, place)], Wanted(tensor.datatype, tensor.shape), [place])
