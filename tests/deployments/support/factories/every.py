"""A member that reads every datatype and gives, for each, a number that says whether it arrived whole."""

import zlib

import numpy as np


def _number(array):
    """(B,) from (B, K): the weighted sum of a row, so that order counts; of BYTES, a checksum below 2^16."""
    if array.dtype == object:
        return [zlib.crc32(b"\0".join(row)) % 2**16 for row in array]
    return array.astype(np.float64) @ np.arange(1, array.shape[1] + 1)


def sums():
    return lambda *arrays: np.stack([_number(a) for a in arrays], axis=1).astype(np.float32)
