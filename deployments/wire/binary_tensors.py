"""A tensor as raw bytes: little-endian and row-major, BYTES elements each with their length before them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.datatypes import bytes_array, datatype_of, numpy_dtype

# So few bytes are copied sooner than looked at in place.
COPIED_BYTES = 1 << 12

Array = NDArray[Any]


def parse_raw(name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview) -> Array:
    """A tensor from its raw bytes; never a copy where the datatype allows, so the array is read-only.

    Raises:
        RequestError: the bytes are not as many as datatype and shape need.
    """
    try:
        return decode(data, datatype, shape)
    except ValueError as error:
        raise RequestError(f"input '{name}': {error}; send exactly the bytes of its shape") from None


def encode(array: NDArray[Any]) -> memoryview | bytes:
    """The raw little-endian, row-major bytes of a tensor; BYTES elements are each preceded by their 4-byte length."""
    if array.dtype == object:
        return b"".join(len(item).to_bytes(4, "little") + item for item in array.ravel())
    if array.nbytes <= COPIED_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def decode(data: memoryview | bytes, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A tensor from its raw bytes, without a copy where the type allows (then it is read-only).

    Raises:
        ValueError: the bytes are not as many as datatype and shape need.
    """
    if datatype == "BYTES":
        return _decode_bytes(memoryview(data), shape)
    dtype = numpy_dtype(datatype)
    needed = math.prod(shape, start=dtype.itemsize)
    if len(data) != needed:
        raise ValueError(f"{datatype} of shape {list(shape)} needs {needed} bytes but has {len(data)}")
    if datatype == "BOOL":  # any byte but 0 is true; NumPy keeps others than 1 as they are
        truth: NDArray[Any] = np.frombuffer(data, np.uint8) != 0
        return truth.reshape(shape)
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _decode_bytes(data: memoryview, shape: tuple[int, ...]) -> NDArray[Any]:
    items: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data) or at + 4 > len(data):
            raise ValueError(f"the length prefix of element {len(items)} points past the end of the data")
        items.append(bytes(data[at + 4 : end]))
        at = end
    count = math.prod(shape)
    if len(items) != count:
        raise ValueError(f"BYTES of shape {list(shape)} needs {count} elements but has {len(items)}")
    return bytes_array(items).reshape(shape)


def described(arrays: Mapping[str, Array]) -> tuple[list[dict[str, Any]], list[bytes | memoryview]]:
    """Tensors as JSON describes those whose bytes stand behind it, and these bytes, in the same order.

    Raises:
        KeyError: of a dtype that the protocol has no name for.
    """
    blobs = [encode(array) for array in arrays.values()]
    tensors = [
        {"name": name, "datatype": datatype_of(array), "shape": array.shape,
         "parameters": {"binary_data_size": len(blob)}}
        for (name, array), blob in zip(arrays.items(), blobs, strict=True)
    ]  # fmt: skip
    return tensors, blobs
