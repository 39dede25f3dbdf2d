"""A member that says what it was given: for each row a digest of each input's dtype, shape and bytes."""

import hashlib

import numpy as np


def digests():
    def predict(*inputs):
        return np.array([_digest([array[row : row + 1] for array in inputs]) for row in range(len(inputs[0]))])

    return predict


def _digest(arrays):
    """(16,) whole numbers below 2**16, which float32 holds exactly."""
    digest = hashlib.sha256()
    for array in arrays:
        data = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
        digest.update(f"{array.dtype.str} {array.shape} ".encode() + data)
    return np.frombuffer(digest.digest(), np.uint16).astype(np.float32)
