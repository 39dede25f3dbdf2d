"""What a user has for an input, lists, Series, tensors, strings, as the array that the model reads."""

# B rows

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.rows.column import Place
from quorate.deployments.rows.tables.numpy_files import column_of
from quorate.deployments.rows.values import fitted

Metadata = Mapping[str, Any]  # of one input: name, datatype and shape, (-1, ...)
_ONE_SHAPE = "a request has rows of one shape: stream them, or query a file or a data frame, which sends each by itself"


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
        RequestError: the values are not of that datatype, or missing where it knows no missing values.
    """
    found = _fitted(described["name"], _as_array(described["name"], given), described["datatype"])
    return found[np.newaxis] if found.ndim == len(described["shape"]) - 1 else found


def as_bytes(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Strings as the BYTES that they go over the wire as; a missing one is empty.

    Raises:
        RequestError: an element is neither string nor bytes.
    """
    return _fitted(name, array, "BYTES")


def _fitted(name: str, array: NDArray[Any], datatype: str) -> NDArray[Any]:
    """The same values as the model's datatype, judged as those of files are."""
    place = Place(f"input '{name}'", "")
    column = column_of(array.reshape(1) if array.ndim == 0 else array, place)
    if column.shapes is not None:
        raise RequestError(f"input '{name}' has rows of several shapes; {_ONE_SHAPE}")
    shape = (column.rows, *column.sizes) if array.ndim else ()
    return fitted(column, datatype, place).reshape(shape)


def _as_array(name: str, given: Any) -> NDArray[Any]:
    if hasattr(given, "detach"):  # a torch tensor, on whatever device; NumPy has no bfloat16, float32 holds it exactly
        given = given.detach().cpu()
        given = given.float() if str(given.dtype) == "torch.bfloat16" else given
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:
        raise RequestError(f"input '{name}' is no array ({error}); {_ONE_SHAPE}") from None
