"""What MLflow's folder says that its model reads: names and types of columns, or of tensors."""

# B batch

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.tables.columns import ColumnError, Columns, as_text
from quorate.deployments.spec.model_files.input_names import plain_name

Array = NDArray[Any]
_DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
_TEXT = ("string", "binary", "datetime")


@dataclass(frozen=True)
class Signature:
    """Attributes:
    types: by the name of each column, such as ``double``; empty for tensors and for models without a signature.
    """

    types: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...] | None:
        return tuple(self.types) or None

    def check(self, request: LoadRequest) -> None:
        """Refuse a member whose inputs are other columns.

        Raises:
            MemberLoadError: some are missing, or the signature has none of the name.
        """
        if self.types:
            Columns(request, list(self.types))

    def check_types(self, arrays: Mapping[str, Array]) -> None:
        """Refuse text where a number is read, and the other way around.

        Raises:
            ColumnError: an input's type is not the signature's.
        """
        for name, kind in self.types.items():
            array = arrays.get(name, arrays.get(plain_name(name)))
            if array is None:
                continue
            if (array.dtype == object) != (kind in _TEXT):
                raise ColumnError(f"input '{name}' is {_kind(array)}, and the signature says {kind}")
            if array.dtype.kind == "f" and kind in ("long", "integer", "boolean"):
                raise ColumnError(
                    f"input '{name}' is a fraction, and the signature says {kind}; make it a whole number"
                )

    def frames(self, request: LoadRequest) -> Callable[[Sequence[Array]], Any]:
        """What makes the frame that MLflow's own ``predict`` takes, of the signature's types; a matrix without one."""
        import pandas as pd

        if not self.types:
            columns = Columns(request, None)
            return lambda arrays: columns.matrix(arrays, np.float64)
        named, kinds = Columns(request, list(self.types)), list(self.types.items())

        def frame(arrays: Sequence[Array]) -> Any:
            pairs = zip(kinds, named.read(arrays), strict=True)
            return pd.DataFrame({name: _cast(column, kind) for (name, kind), column in pairs})

        return frame


def read_signature(found: Any) -> Signature:
    """A signature as MLmodel has it, or None."""
    columns = json.loads((found or {}).get("inputs") or "[]")
    if not all(isinstance(column, dict) and "name" in column for column in columns):
        return Signature({})
    types = {column["name"]: str(column["type"]) for column in columns}
    if any(kind not in (*_DTYPES, *_TEXT) for kind in types.values()):  # tensors, arrays and objects have no columns
        return Signature({})
    return Signature(types)


def _cast(column: Array, kind: str) -> Array:
    return as_text(column, None) if kind in _TEXT else column.astype(_DTYPES[kind])


def _kind(array: Array) -> str:
    return "text" if array.dtype == object else "a number"
