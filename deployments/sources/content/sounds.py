"""Sounds as they arrive, files of .wav, as samples."""

# B rows, S samples

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.rows.sounds import read_wav
from quorate.deployments.sources.content.base64_text import from_base64
from quorate.deployments.sources.content.row_errors import each_row, one_a_row
from quorate.deployments.spec.model_files.example_content import CONTENT


def sounds(array: NDArray[Any], rate: int) -> list[NDArray[np.float32]]:
    """(S,) for each row, which may have any length.

    Args:
        array: (B,) or (B, 1) BYTES.
        rate: samples a second, which nothing is resampled to.

    Raises:
        BadRowsError: naming the rows that are no sound of one channel at that rate.
    """
    return each_row(lambda content: heard(content, rate), one_a_row(array))


def heard(content: Any, rate: int) -> NDArray[np.float32]:
    """The samples of one file, or of one as base64 since JSON has no bytes; ValueError where it is none."""
    if not isinstance(content, bytes):
        raise ValueError(f"a sound has to be BYTES, and not {type(content).__name__}")
    if content == CONTENT.encode():  # what models are tried on before anybody asks
        return np.zeros(rate, np.float32)
    try:
        samples, own = read_wav(from_base64(content))
    except (ValueError, struct.error) as error:
        raise ValueError(f"{len(content)} bytes are no .wav file that can be read ({error})") from None
    if own != rate:
        raise ValueError(f"a sound of {own} samples a second, and the model reads {rate}: convert it")
    if samples.ndim != 1:
        raise ValueError(f"a sound of {len(samples)} channels, and the model reads one: mix them")
    return samples
