"""A member's inputs as the columns that a table's model was trained on.

An input of shape [] or [1] is a column, one of shape [K] is K columns. A model that knows the names of its features is
given the columns of these names, in its own order, and no others that the member may read (``inputs: [all]``); any
other is given all of them, in the order of the inputs.
"""

# B batch, F features

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.spec.model_files.input_names import places_of, plain_name

Array = NDArray[Any]
# A category's text, or its number, and the code that the model knows it by.
Codes = Mapping[bytes | float, float]


class ColumnError(ValueError):
    """Columns that the model cannot read, such as text for a number."""


class Columns:
    """Reads the columns out of a member's inputs.

    Attributes:
        names: of the features in the model's order; numbers where it knows none.
    """

    def __init__(self, request: LoadRequest, names: Sequence[str] | None, count: int | None = None):
        """Bind the member's inputs to the model's features.

        Args:
            names: what the model calls its features; None where it does not name them, and others may.
            count: how many it reads, where that is known without their names.

        Raises:
            MemberLoadError: the inputs are not the model's features.
        """
        inputs, names = request.preprocessing.names, names or request.features
        self._order = None if names is None else _places(request, names)
        self._count = count if names is None else len(names)
        self.names: tuple[str, ...] = tuple(names or inputs)

    @property
    def by_name(self) -> bool:
        """Whether each feature is an input of its own."""
        return self._order is not None

    def read(self, arrays: Sequence[Array]) -> list[Array]:
        """(B,) each, as many as the model has features.

        Raises:
            ColumnError: there are more or fewer.
        """
        if self._order is not None:
            return [_single(self.names[place], arrays[at]) for place, at in enumerate(self._order)]
        wide = [array.reshape(len(array), -1) for array in arrays]
        found = [column for array in wide for column in array.T]
        self._check_count(len(found))
        return found

    def matrix(self, arrays: Sequence[Array], dtype: Any, codes: Mapping[int, Codes] | None = None) -> Array:
        """(B, F) numbers, missing values NaN.

        Args:
            codes: of the features that are categories, by place.

        Raises:
            ColumnError: a column is text that the model reads as a number, or has a category that it does not know.
        """
        if self._order is None and not codes and all(array.dtype != object for array in arrays):
            wide = [array.reshape(len(array), -1) for array in arrays]
            self._check_count(sum(array.shape[1] for array in wide))
            return np.concatenate(wide, axis=1, dtype=dtype, casting="unsafe")
        columns = self.read(arrays)
        rows = np.empty((len(columns[0]), len(columns)), dtype)
        for place, column in enumerate(columns):
            rows[:, place] = self._numbers(place, column, (codes or {}).get(place))
        return rows

    def _numbers(self, place: int, column: Array, codes: Codes | None) -> Array:
        name = self._name(place)
        if codes is not None:
            return coded(name, column, codes)
        if column.dtype == object:
            raise ColumnError(f"{name} is text, and the model reads it as a number; give it a number's datatype")
        return column

    def _name(self, place: int) -> str:
        return f"input '{self.names[place]}'" if self.by_name else f"column {place}"

    def _check_count(self, found: int) -> None:
        if self._count is not None and found != self._count:
            raise ColumnError(f"the member's inputs have {found} columns a row, and the model reads {self._count}")


def coded(name: str, column: Array, codes: Codes) -> Array:
    """(B,) the codes of categories, NaN for what is missing.

    Raises:
        ColumnError: the model does not know one.
    """
    values = as_bytes(column) if column.dtype == object else column.tolist()
    try:
        return np.array([np.nan if _is_missing(value) else codes[value] for value in values], np.float64)
    except KeyError as error:
        shown = error.args[0]
        shown = shown.decode(errors="replace") if isinstance(shown, bytes) else shown
        raise ColumnError(f"{name} has '{shown}', which is none of the model's categories") from None


def codes_of(categories: Sequence[Any]) -> dict[bytes | float, float]:
    """The codes of categories in the order that the model keeps them in."""
    return {value.encode() if isinstance(value, str) else float(value): float(n) for n, value in enumerate(categories)}


def as_bytes(column: Array) -> list[bytes]:
    """Text as it is served, whatever it is offline; nothing at all is the empty text."""
    return [_bytes(value) for value in column.tolist()]


def as_text(column: Array, missing: Any) -> Array:
    """(B,) str, and ``missing`` for the empty text."""
    texts = np.empty(len(column), object)
    texts[:] = [value.decode(errors="replace") or missing for value in as_bytes(column)]
    return texts


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return b"" if value is None or value != value else str(value).encode()


def _is_missing(value: Any) -> bool:
    return bool(value == b"" or value != value)


def _single(name: str, array: Array) -> Array:
    if array.size != len(array):
        raise ColumnError(f"input '{name}' has {array.size // len(array)} values a row, and is one column of the model")
    return array.reshape(-1)


def _places(request: LoadRequest, names: Sequence[str]) -> list[int] | None:
    """Where each feature stands among the inputs; None for one input that holds them all."""
    inputs = request.preprocessing.names
    plain = [plain_name(name) for name in names]
    known = list(names) if len(set(plain)) < len(plain) else plain
    found = places_of(names, inputs)
    if found is None and len(inputs) == 1 and plain_name(inputs[0]) not in plain:
        return None
    if found is None:
        there = {plain_name(name) for name in inputs} | set(inputs)
        missing = [name for name in known if name not in there]
        extra = [name for name in inputs if plain_name(name) not in plain]
        has = f"; it does not know {', '.join(extra)}" if extra else ""
        lacks = f"the model reads {', '.join(missing or known)}, which are not among the inputs{has}"
        raise request.error(lacks, f"write inputs: [{', '.join(known)}], in any order")
    return found
