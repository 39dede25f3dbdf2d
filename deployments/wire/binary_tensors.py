"""A tensor that arrives as raw bytes, and the checks of its name, datatype and shape that every wire shares."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.datatypes import CODES, decode

Array = NDArray[Any]
MAX_DIMS = 32
MAX_ELEMENTS = 2**40


def parse_datatype(name: str, datatype: Any) -> str:
    """A datatype of the protocol."""
    if not isinstance(datatype, str) or datatype not in CODES:
        raise RequestError(f"input '{name}' has datatype {datatype!r:.60}; use one of {', '.join(CODES)}")
    return datatype


def parse_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A shape of at most 32 sizes >= 0 whose product fits in memory."""
    if not isinstance(shape, list) or len(shape) > MAX_DIMS or not set(map(type, shape)) <= {int}:
        raise RequestError(f"input '{name}' has no shape; give a list of at most {MAX_DIMS} whole numbers")
    if min(shape, default=0) < 0:
        raise RequestError(f"input '{name}' has shape {shape}; sizes cannot be negative")
    if math.prod(shape) > MAX_ELEMENTS:
        raise RequestError(f"input '{name}' has shape {shape}, which is too large; send less at once")
    return tuple(shape)


def parse_raw(name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview) -> Array:
    """A tensor from its raw bytes; never a copy where the datatype allows, so the array is read-only.

    Raises:
        RequestError: the bytes are not as many as datatype and shape need.
    """
    try:
        return decode(data, datatype, shape)
    except ValueError as error:
        raise RequestError(f"input '{name}': {error}; send exactly the bytes of its shape") from None
