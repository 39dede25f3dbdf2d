"""What every wire checks of a request's tensors: names, datatypes, shapes, how many elements, which range."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

import numpy as np

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.datatypes import CODES, numpy_dtype

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


def check_once(name: str, known: Container[str], what: str = "input") -> None:
    """Refuse an input, or whatever else it is, that was there before."""
    if name in known:
        raise RequestError(f"{what} '{name}' is given twice; give it once")


def check_count(name: str, elements: int, shape: tuple[int, ...]) -> None:
    """Refuse more or fewer elements than the shape needs."""
    if elements != math.prod(shape):
        raise RequestError(f"input '{name}' has {elements} elements but shape {list(shape)} needs {math.prod(shape)}")


def refuse_shared_memory(what: str, parameters: Container[str]) -> None:
    """Refuse an input or output that is not in the request or response itself."""
    if "shared_memory_region" in parameters:
        raise RequestError(f"{what} is in shared memory, which is not served; leave that out and send the data")


def out_of_range(name: str, datatype: str) -> RequestError:
    """The error for numbers that a datatype cannot hold."""
    dtype = numpy_dtype(datatype)
    fix = "finite numbers in its range"
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        fix = f"{info.min} to {info.max}"
    return RequestError(f"input '{name}' has numbers outside {datatype}; give {fix}")
