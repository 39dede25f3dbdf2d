"""Samples of .wav files, for models that read numbers."""

# n samples, K channels

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.rows.column import Column, Place

_FIX = "convert it to PCM of 8, 16, 24 or 32 bits"


def is_wav(value: Any) -> bool:
    """Whether this is the content of a .wav file."""
    return isinstance(value, bytes) and value[:4] == b"RIFF" and value[8:12] == b"WAVE"


def samples_of(column: Column, place: Place) -> Column:
    """A column of .wav files as their samples from -1 to 1, float32: (n,) of one channel, (K, n) of several.

    Nothing is resampled, so all have to be of one rate; and of one length, since they are rows of one tensor.

    Raises:
        RowsError: a file is none of these.
    """
    rate, sizes, rows = 0, (0,), list[NDArray[np.float32]]()
    for row, data in enumerate(column.values.tolist()):
        found, own = _samples(data, row, place)
        if row and own != rate:
            raise place.error(row, f"{own} samples a second, and {rate} before", "give all one rate")
        if row and found.shape != sizes:
            raise place.error(
                row, f"shape {list(found.shape)}, and {list(sizes)} before", "cut or pad all to one length"
            )
        rate, sizes = own, found.shape
        rows.append(found.reshape(-1))
    return Column(np.concatenate(rows), sizes, len(rows), kind="samples")


def _samples(data: Any, row: int, place: Place) -> tuple[NDArray[np.float32], int]:
    try:
        with wave.open(io.BytesIO(data if isinstance(data, bytes) else b"")) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            found = _pcm(file.readframes(file.getnframes()), width).astype(np.float32).reshape(-1, channels).T
    except (wave.Error, EOFError, RuntimeError, ValueError) as error:  # of a damaged file wave lets out all of these
        raise place.error(row, f"no .wav file of PCM ({error})", _FIX) from None
    return (found[0] if channels == 1 else np.ascontiguousarray(found)), rate


def _pcm(raw: bytes, width: int) -> NDArray[Any]:
    if width == 1:  # unsigned, alone of all
        return (np.frombuffer(raw, np.uint8).astype(np.float64) - 128) / 128
    if width not in (2, 3, 4):
        raise ValueError(f"{8 * width} bits a sample")
    if width == 3:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0] / (1 << 31)
    return np.frombuffer(raw, f"<i{width}") / (1 << (8 * width - 1))
