"""Members that show what arrived, to the bit: a checksum of it, or the thing itself."""

import zlib

import numpy as np


def _checksum(row):
    """A whole number below 2^22, exact in float32, that changes with any bit of the row."""
    data = b"".join(len(item).to_bytes(4, "little") + item for item in row.ravel()) if row.dtype == object else None
    return zlib.crc32(row.tobytes() if data is None else data) % 2**22


def checksums():
    """(B, inputs) of any inputs."""
    return lambda *arrays: np.array([[_checksum(a[i]) for a in arrays] for i in range(len(arrays[0]))], np.float32)


def same():
    return lambda array: array
