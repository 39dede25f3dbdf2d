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


def example_rows(
    inputs: Mapping[str, TensorSpec], rows: int, folder: Path, lengths: str | None = None
) -> dict[str, NDArray[Any]]:
    """(B, *shape) of each input: zeros, of the shape that its ``example`` says, or the bytes of that file.

    Args:
        folder: what the paths of examples start from.
        lengths: the input that counts the tokens of a row, which gets ones.
    """
    found = {name: zeros(tensor.datatype, tensor.example_shape, rows) for name, tensor in inputs.items()}
    for name, tensor in inputs.items():
        if isinstance(tensor.example, str):
            found[name].fill((folder / tensor.example).read_bytes())
    if lengths in found:
        found[lengths] = np.ones_like(found[lengths])
    return found
