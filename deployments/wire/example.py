"""Rows to try a model with before anybody asks it."""

# B rows

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.wire.datatypes import zeros


# A text that is a picture too, a black pixel in the plain form of PPM: something for whatever reads content.
CONTENT = b"P3 1 1 255 0 0 0"
# Samples of a sound of free length: a second at the rate that most models of speech are made for.
SAMPLES = 16_000


def example_rows(
    inputs: Mapping[str, TensorSpec],
    rows: int,
    folder: Path,
    lengths: str | None = None,
    media: Collection[str] = (),
) -> dict[str, NDArray[Any]]:
    """(B, *shape) of each input: zeros, of the shape that its ``example`` says, or the bytes of that file.

    Args:
        folder: what the paths of examples start from.
        lengths: the input that counts the tokens of a row, which gets ones.
        media: inputs of content: without an example they get ``CONTENT``, or a second of silence.
    """
    found = {name: _rows(tensor, rows, name in media) for name, tensor in inputs.items()}
    for name, tensor in inputs.items():
        if isinstance(tensor.example, str):
            found[name].fill((folder / tensor.example).read_bytes())
    if lengths in found:
        found[lengths] = np.ones_like(found[lengths])
    return found


def _rows(tensor: TensorSpec, rows: int, content: bool) -> NDArray[Any]:
    sound = tensor.example is None and tensor.shape == (-1,) and tensor.datatype.startswith("FP")
    array = zeros(tensor.datatype, (SAMPLES,) if content and sound else tensor.example_shape, rows)
    if content and tensor.datatype == "BYTES":
        array.fill(CONTENT)
    return array
