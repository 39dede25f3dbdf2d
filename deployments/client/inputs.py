"""What a user has for an input, lists, Series, tensors, strings, as the array that the model reads."""

# B rows

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.wire.datatypes import numpy_dtype

Metadata = Mapping[str, Any]  # of one input: name, datatype and shape, (-1, ...)


class Frame(Protocol):
    """A DataFrame, of pandas or polars: its columns are inputs."""

    @property
    def columns(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


def by_name(inputs: Mapping[str, ArrayLike] | Frame) -> dict[str, ArrayLike]:
    """A mapping, or a DataFrame's columns."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if hasattr(inputs, "columns"):
        return {str(name): inputs[name] for name in inputs.columns}
    raise RequestError(f"inputs are a {type(inputs).__name__}; give a mapping from names to arrays, or a DataFrame")


def as_input(given: ArrayLike, described: Metadata) -> NDArray[Any]:
    """(B, ...) of the model's datatype; one row may come without its batch dimension.

    Args:
        given: an array, a nested list, a Series, a torch tensor, a number or a string.
        described: the input, as the model's metadata has it.

    Raises:
        RequestError: the values are not of that datatype.
    """
    name, datatype = described["name"], described["datatype"]
    array = _as_array(name, given)
    fitted = as_bytes(name, array) if datatype == "BYTES" else _as_numbers(name, array, datatype)
    return fitted[np.newaxis] if fitted.ndim == len(described["shape"]) - 1 else fitted


def as_bytes(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Strings as the BYTES that they go over the wire as.

    Raises:
        RequestError: an element is neither string nor bytes.
    """
    items: list[bytes] = []
    for place, item in enumerate(array.ravel().tolist()):
        if not isinstance(item, str | bytes):
            missing = item is None or item != item  # NaN stands for a missing string in pandas
            found = "is missing" if missing else f"is {item!r}"
            raise RequestError(f"input '{name}': element {place} {found}; the model reads BYTES, give strings")
        items.append(item.encode() if isinstance(item, str) else item)
    objects = np.empty(len(items), dtype=object)
    objects[:] = items
    return objects.reshape(array.shape)


def _as_array(name: str, given: Any) -> NDArray[Any]:
    if hasattr(given, "detach"):  # a torch tensor, on whatever device; NumPy has no bfloat16, float32 holds it exactly
        given = given.detach().cpu()
        given = given.float() if str(given.dtype) == "torch.bfloat16" else given
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:
        raise RequestError(f"input '{name}' is no array ({error}); give rows of one length") from None


def _as_numbers(name: str, array: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Numbers in the model's width: a list of Python's, or a file of float64, does not state one."""
    wanted = numpy_dtype(datatype)
    if array.dtype == object:
        try:
            array = np.array(array.tolist())
        except ValueError as error:
            raise RequestError(f"input '{name}' is no array ({error}); give rows of one length") from None
    if array.dtype == wanted or (array.dtype.kind in "biuf" and np.can_cast(array.dtype, wanted, "same_kind")):
        try:
            with np.errstate(over="raise"):
                return array.astype(wanted, copy=False)
        except FloatingPointError:
            raise RequestError(f"input '{name}' holds numbers beyond {datatype}; scale them") from None
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if not array.size or (limits.min <= array.min() and array.max() <= limits.max):
            return array.astype(wanted)
        raise RequestError(f"input '{name}' holds numbers beyond {datatype}, from {limits.min} to {limits.max}")
    raise RequestError(f"input '{name}' holds {array.dtype}, the model reads {datatype}; convert it")
