"""Samples of .wav files, for models that read numbers."""

# n samples, K channels

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.rows.column import Column, Place, of_shapes

# What the samples are, of the header's codes; 0xFFFE says it further behind.
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_FIX = "convert it to PCM of 8, 16, 24 or 32 bits, or to floating-point numbers of 32 or 64"


def is_wav(value: Any) -> bool:
    """Whether this is the content of a .wav file."""
    return isinstance(value, bytes) and value[:4] == b"RIFF" and value[8:12] == b"WAVE"


def samples_of(column: Column, place: Place) -> Column:
    """A column of .wav files as their samples from -1 to 1, float32: (n,) of one channel, (K, n) of several.

    Nothing is resampled, so all have to be of one rate, and of as many channels.

    Raises:
        RowsError: a file is none of these.
    """
    rate, rows = 0, list[NDArray[np.float32]]()
    for row, data in enumerate(column.values.tolist()):
        try:
            found, own = read_wav(data if isinstance(data, bytes) else b"")
        except (ValueError, struct.error) as error:
            raise place.error(row, f"no .wav file that can be read ({error})", _FIX) from None
        if row and own != rate:
            raise place.error(row, f"{own} samples a second, and {rate} before", "give all one rate")
        if row and found.shape[:-1] != rows[0].shape[:-1]:
            raise place.error(row, "another number of channels than before", "give all one number")
        rate = own
        rows.append(found)
    shapes = np.array([found.shape for found in rows], np.int64)
    return of_shapes(np.concatenate([found.reshape(-1) for found in rows]), shapes, kind="samples")


def read_wav(data: bytes) -> tuple[NDArray[np.float32], int]:
    """(n,) or (K, n) samples of a .wav file, and how many a second.

    Raises:
        ValueError, struct.error: it is none, or of a kind that is not read.
    """
    chunks = dict(_chunks(data))
    if b"fmt " not in chunks or b"data" not in chunks:
        raise ValueError("it has no samples")
    head = chunks[b"fmt "]
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head)
    if code == _EXTENSIBLE:
        code = struct.unpack_from("<H", head, 24)[0]
    if not channels:
        raise ValueError("it has no channel")
    raw = chunks[b"data"]
    whole = len(raw) // (channels * max(bits // 8, 1)) * channels * max(bits // 8, 1)
    found = _numbers(raw[:whole], code, bits).astype(np.float32).reshape(-1, channels).T
    return (found[0] if channels == 1 else np.ascontiguousarray(found)), rate


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The parts of a RIFF file by name."""
    at = 12
    while is_wav(data) and at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _numbers(raw: bytes, code: int, bits: int) -> NDArray[Any]:
    if code == _FLOAT and bits in (32, 64):
        return np.frombuffer(raw, f"<f{bits // 8}")
    if code != _PCM or bits not in (8, 16, 24, 32):
        raise ValueError(f"format {code} of {bits} bits")
    if bits == 8:  # unsigned, alone of all
        return (np.frombuffer(raw, np.uint8).astype(np.float64) - 128) / 128
    if bits == 24:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0] / (1 << 31)
    return np.frombuffer(raw, f"<i{bits // 8}") / (1 << bits - 1)
