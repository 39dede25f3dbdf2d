"""The tensors of a request: checked against what the model reads, or made from nothing but bytes."""

# B rows

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.binary_tensors import decode
from quorate.deployments.wire.datatypes import datatype_of, numpy_dtype
from quorate.deployments.wire.inference import InferRequest
from quorate.deployments.wire.limits import MAX_ROWS

Array = NDArray[Any]


def check_inputs(request: InferRequest, expected: Collection[str], specs: Mapping[str, TensorSpec]) -> None:
    """Raise RequestError unless the request holds the tensors that the model reads, of equal numbers of rows.

    Args:
        expected: names of what the model reads, each with a spec in ``specs``.
    """
    for name in request.inputs:
        if name not in expected:
            raise RequestError(
                f"unexpected inference input '{name}' for model '{request.model}'; it reads {', '.join(expected)}"
            )
    rows: int | None = None
    for name in expected:
        if name not in request.inputs:
            raise RequestError(
                f"expected {len(expected)} inputs but '{name}' is missing for model '{request.model}'; add it"
            )
        array = request.inputs[name]
        _check_tensor(name, array, specs[name])
        if rows is not None and len(array) != rows:
            raise RequestError(
                f"input '{name}' has {len(array)} rows but others have {rows}; give each the same batch size"
            )
        rows = len(array)
    if not rows or rows > MAX_ROWS:
        raise RequestError(f"the batch has {rows} rows; give 1 to {MAX_ROWS}")


def from_bytes(model: str, data: memoryview, spec: TensorSpec) -> Array:
    """The rows of a body that holds nothing but the bytes of one input.

    They are as many rows as they make, or, where one size of the shape is free, one row.

    Raises:
        RequestError: the bytes are not a whole number of rows.
    """
    if spec.datatype == "BYTES":
        if math.prod(spec.shape) != 1:
            raise RequestError(f"'{model}' reads {list(spec.shape)} strings a row; send them with their lengths")
        array = np.empty((1, *spec.shape), dtype=object)
        array.flat[0] = bytes(data)
        return array
    shape = [1, *spec.shape] if -1 in spec.shape else [-1, *spec.shape]
    num_bytes = len(np.frombuffer(data, np.uint8))
    known = math.prod(size for size in shape if size != -1) * numpy_dtype(spec.datatype).itemsize
    if shape.count(-1) > 1 or not known or num_bytes % known or not num_bytes:
        raise RequestError(
            f"{num_bytes} bytes are not a whole number of rows of {spec.datatype} {list(spec.shape)}; send whole rows"
        )
    shape[shape.index(-1)] = num_bytes // known
    return decode(data, spec.datatype, tuple(shape))


def _check_tensor(name: str, array: Array, spec: TensorSpec) -> None:
    if array.dtype != numpy_dtype(spec.datatype):
        raise RequestError(f"input '{name}' has datatype {datatype_of(array)}; the model reads {spec.datatype}")
    shape = array.shape[1:]
    fits = array.ndim == len(spec.shape) + 1 and (
        shape == spec.shape or all(s in (-1, got) for s, got in zip(spec.shape, shape, strict=True))
    )
    if not fits:
        expected = [-1, *spec.shape]
        raise RequestError(f"input '{name}' has shape {list(array.shape)}; the model reads {expected}, rows first")
