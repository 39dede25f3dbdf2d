"""Rows to try a model with before anybody asks it."""

# B rows

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """(B, *shape) of each input: zeros, of the shape that its ``example`` says, or the bytes of that file.

    Args:
        folder: what the paths of examples start from.
        lengths: the input that counts the tokens of a row, which gets ones.
        content: what is in some inputs that have no example; sound of any length among them is a second of silence.
    """
    found = {name: _rows(tensor, rows, (content or {}).get(name)) for name, tensor in inputs.items()}
    for name, tensor in inputs.items():
        if isinstance(tensor.example, str):
            found[name].fill((folder / tensor.example).read_bytes())
    if lengths in found:
        found[lengths] = np.ones_like(found[lengths])
    return found


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
