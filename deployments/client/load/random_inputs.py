"""Random tensors that a model takes, by its own metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.wire.datatypes import numpy_dtype
from quorate.deployments.wire.inference import EXAMPLE_SHAPE

FREE_DIM = 16  # what a free dimension (-1) of an input is given


def random_inputs(inputs: Sequence[Mapping[str, Any]], rows: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Tensors of the protocol's JSON that fit a model's metadata.

    Free dimensions are given the sizes that the model was tried with, where its metadata says them, else ``FREE_DIM``.
    """
    tensors = []
    free = [b for item in inputs for a, b in zip(item["shape"][1:], _row_shape(item), strict=True) if a < 0]
    for item in inputs:
        shape = [rows, *_row_shape(item)]
        # One whole number a row, beside rows of any length, may be their length.
        below = min(free) + 1 if free and np.prod(shape[1:]) == 1 else 100
        data = _random_data(item["datatype"], int(np.prod(shape)), below, rng).tolist()
        tensors.append({"name": item["name"], "datatype": item["datatype"], "shape": shape, "data": data})
    return tensors


def _row_shape(item: Mapping[str, Any]) -> list[int]:
    tried = item.get("parameters", {}).get(EXAMPLE_SHAPE)
    sizes: list[int] = orjson.loads(tried) if tried else [FREE_DIM if size < 0 else size for size in item["shape"][1:]]
    return sizes


def _random_data(datatype: str, size: int, below: int, rng: np.random.Generator) -> NDArray[Any]:
    if datatype == "BYTES":
        return np.array([f"word{number}" for number in rng.integers(0, 100, size)])
    kind = numpy_dtype(datatype).kind
    if kind == "b":
        return rng.integers(0, 2, size).astype(np.bool_)
    # Every integer type holds 0 to 99, and so does a small vocabulary; floats as networks like them.
    return rng.integers(0, below, size) if kind in "iu" else rng.standard_normal(size).round(4)
