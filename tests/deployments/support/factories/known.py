"""Members whose answers are known: probabilities over three classes, computed from the row alone."""

import ctypes
import os
import time
from pathlib import Path

import numpy as np


def _known(x, shift):
    """(B, 3) from (B, 2): a different soft choice for every row and member."""
    scores = np.stack([x[:, 0] + shift, x[:, 1] - shift, x[:, 0] * x[:, 1]], axis=1).astype(np.float32)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def known(shift):
    return lambda x: _known(x, shift)


def slow(shift, switch, log=""):
    """Sleeps as many seconds as the file at ``switch`` says; while that says hold, it waits.

    ``file:PATH`` is that file as it is now; of a path a copy is deployed with the spec.

    When it says compute, it does for ever; when it says freeze, it keeps the interpreter for ever. Appends a line per
    row that it begins with to ``log``.
    """

    switch = Path(switch.removeprefix("file:"))

    def predict(x):
        if log:
            with Path(log).open("a") as file:
                file.writelines(f"{first:g}\n" for first in x[:, 0])
        while (said := switch.read_text()) in ("hold", ""):  # empty while it is being written
            time.sleep(0.005)
        while said == "compute":
            pass
        if said == "freeze":
            ctypes.PyDLL(None).sleep(1 << 30)
        time.sleep(float(said))
        return _known(x, shift)

    return predict


def picky(shift):
    """Raises when a row starts with 13, gives NaN when it starts with 14."""

    def predict(x):
        if (x[:, 0] == 13).any():
            raise ValueError("13 is not for me")
        return np.where(x[:, :1] == 14, np.float32(np.nan), _known(x, shift))

    return predict


def leaky(shift, kept_bytes):
    """Keeps so many bytes more with every call."""
    kept = []

    def predict(x):
        kept.append(np.ones(kept_bytes, np.uint8))
        return _known(x, shift)

    return predict


def process_id():
    return lambda x: np.full((len(x), 1), os.getpid(), dtype=np.float32)


def wide(columns):
    return lambda x: np.zeros((len(x), columns), dtype=np.float32)


def fragile(shift):
    """As ``known``; gives NaN for rows that hold NaN or overflow."""

    def predict(x):
        with np.errstate(all="ignore"):
            return _known(x, shift)

    return predict


def length():
    """How long each string is."""
    return lambda text: np.array([[len(item)] for item in text], dtype=np.float32)


def chosen():
    """(B, 101) from (B, 2): all is on the class that the row's second number says."""
    return lambda x: 9 * np.eye(101, dtype=np.float32)[x[:, 1].astype(int)]
