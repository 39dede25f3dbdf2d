"""In which ways a table's columns may be a model's inputs: tried one after the other until all models run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quorate.cluster.init.data_columns import Column, Data
from quorate.deployments.errors import SpecError
from quorate.deployments.rows.reading import Wanted
from quorate.deployments.spec.model_files.input_names import plain_name
from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.datatypes import numpy_dtype

_OPTION = re.compile(r"^(?P<name>[A-Za-z0-9_-]+)(:(?P<datatype>[A-Z0-9]+)(\[(?P<shape>[-0-9, ]*)\])?)?$")
_MATRIX = "x"


@dataclass(frozen=True)
class Layout:
    """Inputs of a spec, and the columns of the table that they are read from where those are called otherwise."""

    inputs: Mapping[str, TensorSpec]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def wanted(self) -> dict[str, Wanted]:
        """As rows are read."""
        return {name: Wanted(tensor.datatype, tensor.shape) for name, tensor in self.inputs.items()}


def asked(options: Sequence[str], data: Data | None) -> Layout:
    """The inputs that the user says: NAME, NAME:DATATYPE or NAME:DATATYPE[SHAPE]; what is left out, the data says.

    Raises:
        SpecError: one is written otherwise, or names no column.
    """
    inputs = {}
    for option in options:
        found = _OPTION.match(option)
        if found is None:
            raise SpecError("--input", f"'{option}'", "write NAME, or NAME:DATATYPE[SHAPE] such as x:FP32[4]")
        column = None if data is None else data.columns.get(found["name"])
        if not found["datatype"] and column is None:
            there = "there is no --data" if data is None else f"the data has {', '.join(data.columns)}"
            raise SpecError("--input", f"no type for '{found['name']}', and {there}", f"write {found['name']}:FP32[4]")
        sizes = [int(size) for size in (found["shape"] or "").replace(",", " ").split()]
        shape = tuple(sizes) if found["shape"] is not None or column is None else column.shape
        given: Any = {"datatype": found["datatype"] or _exact(column), "shape": shape}
        inputs[found["name"]] = TensorSpec.model_validate(given)
    return Layout(inputs)


def of_columns(columns: Mapping[str, Column]) -> Iterator[Layout]:
    """An input for each column, of its own type; the same with fractions as FP32; with all numbers as FP32; and all
    numbers as one vector.

    Columns are found by the plain names of theirs, where these tell them apart.
    """
    called = _input_names(columns)
    own = {called[name]: _tensor(_exact(column), column.shape) for name, column in columns.items()}
    alike = Counter(map(plain_name, columns))
    renamed = {name: (column,) for column, name in called.items() if plain_name(name) != plain_name(column)}
    renamed |= {name: (column,) for column, name in called.items() if column != name and alike[plain_name(column)] > 1}
    whole = {called[name]: _tensor(column.datatype, column.shape) for name, column in columns.items()}
    if whole != own:  # a tree's thresholds lie between two float64
        yield Layout(whole, renamed)
    yield Layout(own, renamed)
    if all(tensor.datatype == "BYTES" for tensor in own.values()):
        return
    yield Layout({name: tensor.model_copy(update=_as_number(tensor)) for name, tensor in own.items()}, renamed)
    if len(own) > 1 and all(not tensor.shape and tensor.datatype != "BYTES" for tensor in own.values()):
        yield Layout({_MATRIX: _tensor("FP32", (len(own),))}, {_MATRIX: tuple(columns)})


def _input_names(columns: Iterable[str]) -> dict[str, str]:
    """For each column a name that an input may have: letters, digits, _ and -."""
    found: dict[str, str] = {}
    for column in columns:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", column).strip("_-")[:60] or "column"
        taken = set(found.values())
        found[column] = next(n for n in (plain, *(f"{plain}_{k}" for k in range(2, 9999))) if n not in taken)
    return found


def _exact(column: Column | None) -> str:
    """Tables hold float64 where models read float32."""
    datatype = "FP32" if column is None else column.datatype
    return "FP32" if datatype == "FP64" else datatype


def _as_number(tensor: TensorSpec) -> dict[str, str]:
    return {} if tensor.datatype == "BYTES" or numpy_dtype(tensor.datatype).kind == "f" else {"datatype": "FP32"}


def _tensor(datatype: str, shape: tuple[int, ...]) -> TensorSpec:
    given: Any = {"datatype": datatype, "shape": shape}
    return TensorSpec.model_validate(given)
