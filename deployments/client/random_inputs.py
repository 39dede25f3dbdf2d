"""Random tensors that a model takes, by its own metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.wire.datatypes import numpy_dtype

FREE_DIM = 16  # what a free dimension (-1) of an input is given


def random_inputs(inputs: Sequence[Mapping[str, Any]], rows: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Tensors of the protocol's JSON that fit a model's metadata; free dimensions are given ``FREE_DIM``."""
    tensors = []
    free = any(size < 0 for item in inputs for size in item["shape"][1:])
    for item in inputs:
        shape = [rows, *(FREE_DIM if size < 0 else size for size in item["shape"][1:])]
        # One whole number a row, beside rows of any length, may be their length.
        below = FREE_DIM + 1 if free and np.prod(shape[1:]) == 1 else 100
        data = _random_data(item["datatype"], int(np.prod(shape)), below, rng).tolist()
        tensors.append({"name": item["name"], "datatype": item["datatype"], "shape": shape, "data": data})
    return tensors


def _random_data(datatype: str, size: int, below: int, rng: np.random.Generator) -> NDArray[Any]:
    if datatype == "BYTES":
        return np.array([f"word{number}" for number in rng.integers(0, 100, size)])
    kind = numpy_dtype(datatype).kind
    if kind == "b":
        return rng.integers(0, 2, size).astype(np.bool_)
    # Every integer type holds 0 to 99, and so does a small vocabulary; floats as networks like them.
    return rng.integers(0, below, size) if kind in "iu" else rng.standard_normal(size).round(4)
