"""Rows to try a model with before anybody asks it."""

# B rows

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.datatypes import zeros


def example_rows(inputs: Mapping[str, TensorSpec], rows: int, lengths: str | None = None) -> dict[str, NDArray[Any]]:
    """(B, *shape) zeros for each input, a free dimension 1; ones of ``lengths``, which counts the tokens of a row."""
    found = {name: zeros(tensor.datatype, tensor.shape, rows) for name, tensor in inputs.items()}
    if lengths in found:
        found[lengths] = np.ones_like(found[lengths])
    return found
