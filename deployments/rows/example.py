"""Rows to try a model with before anybody asks it."""

# B rows

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RowsError, SpecError
from quorate.deployments.rows.opening import open_rows
from quorate.deployments.rows.reading import Wanted, input_batches
from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.datatypes import zeros

# Samples of a sound of free length: a second at the rate that most models of speech are made for.
SAMPLES = 16_000


def example_rows(
    inputs: Mapping[str, TensorSpec],
    rows: int,
    folder: Path,
    lengths: str | None = None,
    content: Mapping[str, str] | None = None,
) -> dict[str, NDArray[Any]]:
    """(B, *shape) of each input: zeros, of the shape that its ``example`` says, or what is in that file.

    Args:
        folder: what the paths of examples start from.
        lengths: the input that counts the tokens of a row, which gets ones.
        content: what is in some inputs that have no example; sound of any length among them is a second of silence.
    """
    found = {
        name: _rows(tensor, rows, (content or {}).get(name))
        if (given := _given(name, tensor, folder)) is None
        else np.repeat(given, rows, axis=0)
        for name, tensor in inputs.items()
    }
    if lengths in found:
        found[lengths] = np.ones_like(found[lengths])
    return found


def check_examples(inputs: Mapping[str, TensorSpec], folder: Path) -> None:
    """Refuse files of examples that are no rows of their inputs.

    Raises:
        SpecError: one is not.
    """
    for name, tensor in inputs.items():
        try:
            _given(name, tensor, folder)
        except RowsError as error:
            raise SpecError(f"inputs.{name}.example", f"{error.source}: {error.found}", error.fix) from None


def _given(name: str, tensor: TensorSpec, folder: Path) -> NDArray[Any] | None:
    """(1, *shape) out of the file that an input names: of BYTES its content, of numbers its first row."""
    if not isinstance(tensor.example, str):
        return None
    path = folder / tensor.example
    if tensor.datatype == "BYTES":
        array = zeros("BYTES", tensor.example_shape, 1)
        array.fill(path.read_bytes())
        return array
    wanted = {name: Wanted(tensor.datatype, tensor.shape)}
    batch = next(input_batches(open_rows(path), wanted), None)
    if batch is None:
        raise RowsError(path.name, "no rows", "give at least one")
    return batch[name][:1]


def _rows(tensor: TensorSpec, rows: int, content: str | None) -> NDArray[Any]:
    if content is None:
        return zeros(tensor.datatype, tensor.example_shape, rows)
    sound = tensor.example is None and tensor.shape == (-1,) and tensor.datatype.startswith("FP")
    array = zeros(tensor.datatype, (SAMPLES,) if sound else tensor.example_shape, rows)
    if tensor.datatype == "BYTES":
        array.fill(content.encode())
    elif content.lstrip("-").isdigit():  # a category
        array.fill(int(content))
    return array
